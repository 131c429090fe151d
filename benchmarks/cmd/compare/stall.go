package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gobwas/ws"

	"roost/benchmarks/internal/client"
	"roost/benchmarks/internal/fleet"
)

const (
	stallLimit = 30 * time.Second // a reader that hears nothing for so long has lost the rest
	drainLimit = time.Second      // a stalled client that hears nothing for so long is still connected
)

func stall(quick bool) scenario {
	s := scenario{
		name: "stall", title: "Clients that never read: memory",
		text: "Some clients of a broadcast stop reading. The next message is sent when all the others have the last, " +
			"every byte of which they check. Growth: the server's largest resident set after the clients had connected, " +
			"less its resident set then. Roost's bar: at most 40 MiB, and nothing lost.",
		columns: []column{
			{"growth_mib", "growth, MiB", "%.1f"},
			{"end_mib", "growth at the end, MiB", "%.1f"},
			{"lost", "messages lost by readers", "%.0f"},
			{"cut", "stalled clients cut", "%.0f"},
			{"seconds", "seconds", "%.1f"},
		},
		connections: pick(quick, 50, 10), messages: pick(quick, 400, 150), size: 60_000, stalled: pick(quick, 10, 2),
	}
	s.measure = s.runStall
	return s
}

// runStall connects, broadcasts in lockstep with the readers, and then looks what became of those
// that did not read.
func (s scenario) runStall(ctx context.Context, _ options, p *fleet.Process, _ fleet.Server) (map[string]float64, error) {
	var clients []*client.Client
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for range s.connections {
		c, err := client.Dial(p.Address, "/broadcast")
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
		c.SetDeadline(time.Now().Add(stallLimit))
		if err := c.Settle(); err != nil {
			return nil, err
		}
	}
	stalled, readers := clients[:s.stalled], clients[s.stalled:]
	status := filepath.Join("/proc", strconv.Itoa(p.PID), "status")
	// Resets the largest resident set (proc(5), clear_refs).
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(p.PID), "clear_refs"), []byte("5"), 0); err != nil {
		return nil, err
	}
	before, start := kilobytes(status, "VmRSS"), time.Now()
	lost, err := s.lockstep(ctx, readers)
	seconds := time.Since(start).Seconds()
	peak, end := kilobytes(status, "VmHWM"), kilobytes(status, "VmRSS")
	if err != nil {
		return nil, err
	}
	if before == 0 || peak == 0 {
		return nil, errors.New("stall: the server's memory could not be read")
	}
	const mebibyte = 1 << 20
	return map[string]float64{
		"growth_mib": (peak - before) / mebibyte, "end_mib": (end - before) / mebibyte,
		"lost": float64(lost), "cut": float64(countCut(stalled)), "seconds": seconds,
	}, nil
}

// lockstep lets the first reader send each message when all readers have had the one before, and
// returns how many messages they lost together. A reader is done with once it fails.
func (s scenario) lockstep(ctx context.Context, readers []*client.Client) (lost int, err error) {
	filler := bytes.Repeat([]byte("a roost is where birds sit still"), s.size/32+1)[:s.size]
	arrived := make(chan error, len(readers))
	for _, c := range readers {
		go func() {
			var buffer []byte
			for i := range s.messages {
				c.SetDeadline(time.Now().Add(stallLimit))
				opcode, payload, err := c.Receive(buffer)
				buffer = payload
				switch {
				case err != nil:
				case opcode != ws.OpBinary || len(payload) != s.size || binary.BigEndian.Uint64(payload) != uint64(i):
					err = fmt.Errorf("stall: message %d came as opcode %d with %d bytes, or out of turn", i, opcode, len(payload))
				case !bytes.Equal(payload[8:], filler[8:]):
					err = fmt.Errorf("stall: message %d came with other content", i)
				}
				arrived <- err
				if err != nil {
					return
				}
			}
		}()
	}
	message := bytes.Clone(filler)
	listening := len(readers)
	for i := range s.messages {
		if err := ctx.Err(); err != nil {
			return lost, err
		}
		binary.BigEndian.PutUint64(message, uint64(i))
		if err := readers[0].Send(ws.OpBinary, message); err != nil {
			return lost, err
		}
		for range listening {
			if failed := <-arrived; failed != nil {
				err = errors.Join(err, failed)
				listening--
				lost += s.messages - i
			}
		}
	}
	if listening == 0 {
		return lost, err // nobody is left: not a loss, but no run
	}
	return lost, nil
}

// countCut reads what the stalled clients were sent and counts those whose connection then ends.
func countCut(stalled []*client.Client) (cut int) {
	for _, c := range stalled {
		var buffer []byte
		for {
			c.SetDeadline(time.Now().Add(drainLimit))
			opcode, payload, err := c.Receive(buffer)
			buffer = payload
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil || opcode == ws.OpClose {
				cut++
				break
			}
		}
	}
	return cut
}
