package fleet

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"roost/benchmarks/internal/client"
)

const patience = 20 * time.Second // only against hanging for ever

var binaries string // what TestMain has built

// peers are the servers of this module, and the floor with two loops besides.
func peers() []Server {
	var list []Server
	for _, server := range All(1) {
		if !server.IsRoost() && server.TakesPart("echo") {
			list = append(list, server)
		}
	}
	two := All(2)[0]
	two.Name = "floor-2"
	return append(list, two)
}

func TestMain(m *testing.M) {
	code := func() int {
		root, err := Root()
		if err != nil {
			panic(err)
		}
		if binaries, err = os.MkdirTemp("", "peers"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(binaries)
		list := peers()
		if _, err := exec.LookPath("gcc"); err != nil {
			list = list[1:] // the floor's own tests are skipped then
		}
		if err := Build(root, binaries, list); err != nil {
			panic(err)
		}
		return m.Run()
	}()
	os.Exit(code)
}

// What the tests build by other programs is opened here: so go test knows that a cached result does
// not hold once one of these files has changed. (It does not see what TestMain opens.)
func TestSourcesAreReadable(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"floor/*.c", "servers/*/*.go", "internal/peer/*.go", "go.mod"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			if _, err := os.ReadFile(file); err != nil {
				t.Error(err)
			}
		}
	}
}

// forEach runs the check against a fresh process of every peer.
func forEach(t *testing.T, check func(t *testing.T, address string)) {
	for _, server := range peers() {
		t.Run(server.Name, func(t *testing.T) {
			if server.program == "floor" {
				if _, err := exec.LookPath("gcc"); err != nil {
					t.Skip("no gcc: the floor cannot be built")
				}
			}
			process, err := Start(server, binaries)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(process.Stop)
			check(t, process.Address)
			if !process.Running() {
				t.Fatalf("the server has ended: %s", process.Log())
			}
		})
	}
}

func dial(t *testing.T, address, path string) *client.Client {
	t.Helper()
	c, err := client.Dial(address, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	if err := c.Settle(); err != nil {
		t.Fatal(err)
	}
	return c
}

// message has a content of its own for every seed.
func message(seed uint64, size int) []byte {
	data := make([]byte, size)
	source := rand.New(rand.NewPCG(seed, 1))
	for i := range data {
		data[i] = byte(source.Uint32())
	}
	return data
}

func expect(t *testing.T, c *client.Client, opcode ws.OpCode, payload []byte) {
	t.Helper()
	got, data, err := c.Receive(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got != opcode || !bytes.Equal(data, payload) {
		t.Fatalf("got opcode %d and %d bytes, want opcode %d and %d bytes that are the same", got, len(data), opcode, len(payload))
	}
}

func TestEchoReturnsEveryLength(t *testing.T) {
	forEach(t, func(t *testing.T, address string) {
		c := dial(t, address, "/echo")
		for i, size := range []int{1, 2, 125, 126, 128, 4096, 60_000, 65_535, 65_536, 500_000} {
			payload := message(uint64(i), size)
			if err := c.Send(ws.OpBinary, payload); err != nil {
				t.Fatal(err)
			}
			expect(t, c, ws.OpBinary, payload)
		}
		if err := c.Send(ws.OpText, []byte("grüße")); err != nil {
			t.Fatal(err)
		}
		expect(t, c, ws.OpText, []byte("grüße"))
	})
}

// What a client sends may arrive in any pieces, and several messages at once.
func TestEchoOfPiecesAndOfManyAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, address string) {
		c := dial(t, address, "/echo")
		var stream []byte
		var payloads [][]byte
		for i, size := range []int{128, 1, 300, 70_000, 5} {
			payload := message(uint64(i), size)
			payloads = append(payloads, payload)
			frame := ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(payload)))
			stream = append(stream, frame...)
		}
		go func() {
			// Cuts within the header, within the mask, within the payload; then all the rest.
			for _, cut := range []int{1, 3, 60, 71, 20_000} {
				_, _ = c.Raw().Write(stream[:cut])
				stream = stream[cut:]
				time.Sleep(5 * time.Millisecond) // lets the piece arrive alone; right without it, too
			}
			_, _ = c.Raw().Write(stream)
		}()
		for _, payload := range payloads {
			expect(t, c, ws.OpBinary, payload)
		}
	})
}

func TestBroadcastReachesEveryoneInOrder(t *testing.T) {
	forEach(t, func(t *testing.T, address string) {
		var clients []*client.Client
		for range 5 {
			clients = append(clients, dial(t, address, "/broadcast"))
		}
		bystander := dial(t, address, "/echo")
		gone := dial(t, address, "/broadcast")
		gone.Close()
		sizes := []int{1, 128, 60_000, 128, 2}
		go func() {
			for i, size := range sizes {
				_ = clients[0].Send(ws.OpBinary, message(uint64(i), size))
			}
		}()
		for _, c := range clients {
			for i, size := range sizes {
				expect(t, c, ws.OpBinary, message(uint64(i), size))
			}
		}
		if err := bystander.Send(ws.OpBinary, []byte("mine")); err != nil {
			t.Fatal(err)
		}
		expect(t, bystander, ws.OpBinary, []byte("mine"))
	})
}

func TestCloseIsAnswered(t *testing.T) {
	forEach(t, func(t *testing.T, address string) {
		c := dial(t, address, "/echo")
		if err := c.Send(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, "")); err != nil {
			t.Fatal(err)
		}
		opcode, payload, err := c.Receive(nil)
		if err != nil {
			t.Fatal(err)
		}
		if code, _ := ws.ParseCloseFrameData(payload); opcode != ws.OpClose || (code != ws.StatusNormalClosure && len(payload) > 0) {
			t.Fatalf("got opcode %d, code %d", opcode, code)
		}
		if _, _, err := c.Receive(nil); err == nil {
			t.Fatal("the connection stays open")
		}
	})
}

// A client that stops reading is cut, or served later: the others get everything at once.
func TestFloorCutsWhoNeverReads(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc: the floor cannot be built")
	}
	process, err := Start(All(1)[0], binaries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Stop)
	reader, deaf := dial(t, process.Address, "/broadcast"), dial(t, process.Address, "/broadcast")
	payload := message(1, 60_000)
	const rounds = 200 // 12 MB: more than kernel buffers and UNSENT_LIMIT together
	for range rounds {
		if err := reader.Send(ws.OpBinary, payload); err != nil {
			t.Fatal(err)
		}
		expect(t, reader, ws.OpBinary, payload)
	}
	received := 0
	for ; ; received++ {
		if _, _, err := deaf.Receive(nil); err != nil {
			break
		}
	}
	if received == 0 || received >= rounds {
		t.Fatalf("%d of %d messages received by a client that was to be cut in between", received, rounds)
	}
}

func TestSelectRefusesUnknownNames(t *testing.T) {
	chosen, err := Select(All(1), []string{"gws", "floor"})
	if err != nil || len(chosen) != 2 || chosen[0].Name != "floor" || chosen[1].Name != "gws" {
		t.Fatalf("got %v, %v", chosen, err)
	}
	if _, err := Select(All(1), []string{"floor", "nobody"}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Fatalf("got %v", err)
	}
}

func TestParseReady(t *testing.T) {
	for line, want := range map[string]string{
		"ready address=127.0.0.1:80":                                      "127.0.0.1:80",
		"ready address=127.0.0.1:80 internal=127.0.0.1:81 page=http://x/": "127.0.0.1:80",
		"time=now msg=ready address=127.0.0.1:80":                         "",
		"": "", "ready internal=127.0.0.1:81": "",
	} {
		if got, ok := parseReady(line, "address="); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v", line, got, ok)
		}
	}
}
