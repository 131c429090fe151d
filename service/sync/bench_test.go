package sync

import (
	"fmt"
	"sync/atomic"
	"testing"

	"roost/service"
)

func write(b *testing.B, s *Service, params string) {
	c := &service.Call{Caller: backendCaller, Op: "set", Data: []byte(params)}
	err := Prepare(c)
	if err == nil {
		_, err = s.Router().Do(b.Context(), c)
	}
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkWriteOne(b *testing.B) {
	r := newRig(b, Config{})
	r.do("open", `{"type":"document","name":"a"}`)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		write(b, r.s, fmt.Sprintf(`{"type":"document","name":"a","data":{"n":%d,"text":"some hundred bytes of data, as a small document has them, which is not much"}}`, i))
	}
}

func BenchmarkWriteMany(b *testing.B) {
	r := newRig(b, Config{})
	const objects = 1000
	for i := range objects {
		r.do("open", fmt.Sprintf(`{"type":"document","name":"%d"}`, i))
	}
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			write(b, r.s, fmt.Sprintf(`{"type":"document","name":"%d","data":{"n":%d,"text":"some hundred bytes of data, as a small document has them, which is not much"}}`, i%objects, i))
		}
	})
}
