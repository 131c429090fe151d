package emulation

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"roost/proto/ws"
)

// A proxy may send an upgrade over a connection by which a POST came before.
func TestUpgradeOnKeptConnection(t *testing.T) {
	g := start(t, nil)
	nc, err := net.Dial("tcp", strings.TrimPrefix(g.addr, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(nc)
	fmt.Fprint(nc, "POST /emulation HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != 400 || res.Close {
		t.Fatal(res, err)
	} else if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(nc, "GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", key)
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	if _, err := nc.Write(ws.AppendMaskedFrame(nil, ws.OpText, [4]byte{1, 2, 3, 4}, []byte(connectCommand(t, "ann")))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client is connected", func() bool { return g.Stats().Clients == 1 })
	if st := g.emulation.Stats(); st.Connections != 1 || st.Streams != 0 {
		t.Errorf("%+v", st)
	}
	_ = nc.Close()
	eventually(t, "the client has gone", func() bool { return g.Stats().Clients == 0 && g.emulation.Stats().Connections == 0 })
}
