package proctest

import "runtime"

// LiveHeap returns the bytes of heap in use after collections of garbage, also of what finalizers held.
func LiveHeap() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
