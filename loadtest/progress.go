package loadtest

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"
)

// NewProgress returns bars for a terminal, and plain lines for anything else or on wish.
func NewProgress(out *os.File, plain bool) Progress {
	if plain || !cwriter.IsTerminal(int(out.Fd())) {
		return &plainProgress{out: out}
	}
	return &barProgress{out: out}
}

// plainEvery is how often a plain line is written.
const plainEvery = 2 * time.Second

// plainProgress writes a line when a phase begins and ends, and now and then between.
type plainProgress struct {
	out   io.Writer
	phase string
	note  string
	last  time.Time
}

func (p *plainProgress) Begin(phase string, total int64) {
	p.phase, p.note, p.last = phase, "", time.Now()
	if total > 0 {
		phase = fmt.Sprintf("%s: %d to do", phase, total)
	}
	fmt.Fprintln(p.out, phase)
}

func (p *plainProgress) Update(_ int64, note string) {
	p.note = note
	if time.Since(p.last) >= plainEvery {
		p.last = time.Now()
		fmt.Fprintf(p.out, "%s: %s\n", p.phase, note)
	}
}

func (p *plainProgress) End() { fmt.Fprintf(p.out, "%s done: %s\n", p.phase, p.note) }

// barProgress draws one bar per phase.
type barProgress struct {
	out  io.Writer
	pool *mpb.Progress
	bar  *mpb.Bar
	note atomic.Value // string; read by the pool's goroutine
}

func (p *barProgress) Begin(phase string, total int64) {
	p.note.Store("")
	p.pool = mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(40))
	p.bar = p.pool.AddBar(0, // a bar made with its total ends by itself, and then Abort would wait for ever
		mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-8s", phase)), decor.Elapsed(decor.ET_STYLE_MMSS)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return p.note.Load().(string) })))
	p.bar.SetTotal(total, false)
}

func (p *barProgress) Update(done int64, note string) {
	p.note.Store(note)
	p.bar.SetCurrent(done)
}

// End leaves the bar where it is: a phase that was interrupted is not full.
func (p *barProgress) End() {
	p.bar.Abort(false)
	p.pool.Wait()
}

var _, _ Progress = (*plainProgress)(nil), (*barProgress)(nil)
