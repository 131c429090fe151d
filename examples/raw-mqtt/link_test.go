package main

import "testing"

// What a client sends faster than the broker takes it is bounded.
func TestLinkIsBounded(t *testing.T) {
	l := newLink("reply")
	message := make([]byte, 64<<10)
	for i := range pendingMost / len(message) {
		if !l.put(message) {
			t.Fatalf("message %d was refused", i)
		}
	}
	if l.put(message[:1]) {
		t.Error("there was no bound")
	}
}
