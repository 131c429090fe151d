//go:build race

package conformance

// bulkMessages in each case of 9.7, 9.8, 12 and 13: the detector makes each a good
// deal slower, and two are enough for it.
const bulkMessages = 2
