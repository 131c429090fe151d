//go:build faults && linux && !portable

package conn

// Few connections are enough for many messages then.
func init() { carryFDs = 4 }
