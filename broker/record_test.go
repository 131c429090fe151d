package broker

import (
	"reflect"
	"strings"
	"testing"
)

func FuzzRecord(f *testing.F) {
	full := record{
		Publication: Publication{Offset: 7, Epoch: "epoch", Data: []byte("data"), Info: []byte("info"), Tags: map[string]string{"k": "v"}, Delta: true, Time: -1, Note: []byte("note")},
		kind:        kindRecord, class: 2, id: 9, boot: "boot", version: 3, versionEpoch: "v",
	}
	f.Add(full.append(nil))
	for kind := kindRecord; kind <= kindLeave; kind++ {
		f.Add((&record{kind: kind}).append(nil))
	}
	f.Add([]byte{})
	f.Add([]byte{formatVersion, kindRecord, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		again, err := decodeRecord(r.append(nil))
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v became %+v, error %v", r, again, err)
		}
	})
}

func TestRecordCutShort(t *testing.T) {
	r := record{
		Publication: Publication{Offset: 300, Epoch: "epoch", Info: []byte("info"), Tags: map[string]string{"k": "v"}, Time: 1 << 40},
		kind:        kindRecord, boot: "boot", versionEpoch: "v",
	}
	whole := r.append(nil) // without data: every byte counts
	for n := range whole {
		if _, err := decodeRecord(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes were a record", n, len(whole))
		}
	}
}

func FuzzToken(f *testing.F) {
	for _, ch := range []string{"a", "a.b", "%", "😀", "\x00", "a b*>"} {
		f.Add(ch)
	}
	f.Fuzz(func(t *testing.T, ch string) {
		token := string(appendToken(nil, ch))
		if strings.ContainsAny(token, ".*> \t\r\n\x00\x7f") {
			t.Fatalf("%q became %q", ch, token)
		}
		if back, ok := fromToken(token); ch != "" && (!ok || back != ch) {
			t.Fatalf("%q became %q and then %q", ch, token, back)
		}
		_, _ = fromToken(ch) // any input is safe
	})
}
