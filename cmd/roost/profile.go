package main

import "github.com/pkg/profile"

// startProfile records a profile of the given kind until the returned function is
// called; "" records none.
func startProfile(kind, dir string) (stop func()) {
	modes := map[string]func(*profile.Profile){
		"cpu":   profile.CPUProfile,
		"mem":   profile.MemProfile,
		"mutex": profile.MutexProfile,
		"block": profile.BlockProfile,
		"trace": profile.TraceProfile,
	}
	mode, ok := modes[kind]
	if !ok {
		return func() {}
	}
	return profile.Start(mode, profile.ProfilePath(dir), profile.NoShutdownHook).Stop
}
