//go:build !race

package conformance

const bulkMessages = 40 // in each case of 9.7, 9.8, 12 and 13
