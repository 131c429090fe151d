package broker

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout bounds the recovery of a large data folder.
const startTimeout = 5 * time.Minute

// embedded is the NATS server in this process. It listens nowhere without Options.Listen.
type embedded struct {
	mu   sync.Mutex
	nats *server.Server // nil while suspended; guarded by mu

	log    *serverLog
	lock   *os.File // held as long as the process uses the folder; nil in memory
	dir    string
	temp   bool // dir is to be removed
	marker marker
	// password of this process; "" where nobody needs one, as nobody else is there.
	password string
	// newEra says that records acknowledged before may be missing.
	newEra bool
	handed bool // the folder was given up in order, and the marker does not say so
}

// marker tells the next start how this one ended.
type marker struct {
	Boot  string `json:"boot"`  // the machine's boot id
	Clean bool   `json:"clean"` // ended in order
	Sync  bool   `json:"sync"`  // wrote to the disk before it confirmed
	// Streams is how many there are of each class in this folder; folders from before it was noted
	// have historyStreams.
	Streams int `json:"streams"`
}

// bootID is where Linux keeps an id of the machine's last start. Tests replace it.
var bootID = "/proc/sys/kernel/random/boot_id"

func startServer(o Options) (*embedded, error) {
	e := &embedded{dir: o.Dir, marker: marker{Streams: embeddedStreams}}
	if o.Memory {
		dir, err := os.MkdirTemp("", "roost-")
		if err != nil {
			return nil, fmt.Errorf("broker: %w", err)
		}
		e.dir, e.temp = dir, true
	}
	if err := e.start(o); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	return e, nil
}

// start starts the server, or starts it again. After an error the folder is given up.
func (e *embedded) start(o Options) (err error) {
	if !e.temp {
		if err := e.open(o); err != nil {
			return errors.Join(err, e.leave(false))
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.suspend(true), e.leave(false))
		}
	}()
	log := &serverLog{log: o.Logger}
	so := &server.Options{
		ServerName: o.Prefix + "-" + o.Node, DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, DisableJetStreamBanner: true,
		StoreDir: filepath.Join(e.dir, "nats"), SyncAlways: o.SyncAlways,
	}
	if o.Listen.Address != "" {
		if err := o.Listen.listen(so, e.inside()); err != nil {
			return err
		}
	}
	s, err := server.NewServer(so)
	if err != nil {
		return fmt.Errorf("broker: embedded NATS: %w", err)
	}
	e.mu.Lock()
	e.nats, e.log = s, log
	e.mu.Unlock()
	s.SetLoggerV2(log, false, false, false)
	go s.Start()
	for end := time.Now().Add(startTimeout); !s.ReadyForConnections(100 * time.Millisecond); {
		if why := log.fatal(); why != "" || time.Now().After(end) {
			return fmt.Errorf("broker: embedded NATS did not start: %s", why)
		}
	}
	if !s.JetStreamEnabled() {
		return fmt.Errorf("broker: embedded NATS has no JetStream: %s", log.fatal())
	}
	return nil
}

// inside is the password of this process; the same whenever the server is started again.
func (e *embedded) inside() string {
	if e.password == "" {
		e.password = rand.Text()
	}
	return e.password
}

// open locks the folder and finds out how it was left.
func (e *embedded) open(o Options) error {
	if err := os.MkdirAll(e.dir, 0o750); err != nil {
		return fmt.Errorf("broker: data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(e.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("broker: data folder: %w", err)
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("broker: data folder %s is in use by another process: %w", e.dir, err)
	}
	e.lock = f
	boot, err := os.ReadFile(bootID)
	if err != nil {
		boot = nil // unknown: then only a clean end is trusted
	}
	now := marker{Boot: strings.TrimSpace(string(boot)), Sync: o.SyncAlways, Streams: embeddedStreams}
	var last marker
	text, err := os.ReadFile(e.markerPath())
	switch {
	case err == nil && json.Unmarshal(text, &last) == nil:
		if now.Streams = last.Streams; now.Streams < 1 || now.Streams > historyStreams {
			now.Streams = historyStreams
		}
		// Who takes a folder over knows that the server before has ended in order.
		trusted := (o.Heir != nil || e.handed) && last.Sync == now.Sync
		if trusted && last == now {
			e.marker, e.newEra = now, false
			return nil // everybody waits for that: no writing to the disk
		}
		same := last.Boot == now.Boot && now.Boot != ""
		e.newEra = !last.Clean && !same && !last.Sync
		if !last.Clean && same && !trusted {
			if err := syncDisk(f); err != nil { // what a killed process left behind; from here on this one's promises hold
				return fmt.Errorf("broker: data folder: %w", err)
			}
		}
	case err == nil || !errors.Is(err, os.ErrNotExist):
		e.newEra = true
	}
	if e.newEra {
		o.Logger.Warn("the machine went down without notice: the last publications may be missing, so channels get a new epoch", "dir", e.dir)
		now.Sync = false // until the new era is stored, see settled
	}
	e.marker = now
	return e.mark()
}

func (e *embedded) markerPath() string { return filepath.Join(e.dir, "state.json") }

// mark writes the marker, safe against a power cut.
func (e *embedded) mark() error {
	text, err := json.Marshal(e.marker)
	if err != nil {
		return fmt.Errorf("broker: marker: %w", err)
	}
	tmp := e.markerPath() + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("broker: marker: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, e.markerPath())
	}
	if err == nil {
		err = syncDir(e.dir)
	}
	if err != nil {
		return fmt.Errorf("broker: marker: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// settled notes that the new era is stored.
func (e *embedded) settled(sync bool) error {
	if !e.newEra || e.lock == nil {
		return nil
	}
	e.newEra = false
	e.marker.Sync = sync
	return e.mark()
}

// stop ends the server, which writes everything to the disk, and gives up the folder.
func (e *embedded) stop() error {
	err := errors.Join(e.suspend(true), e.leave(false))
	if e.temp {
		err = errors.Join(err, os.RemoveAll(e.dir))
	}
	return err
}

// leave gives up the folder, if it is held; clean says that the server ended in order.
func (e *embedded) leave(clean bool) (err error) {
	if e.lock == nil {
		return nil
	}
	if clean && !e.newEra {
		// NATS leaves that to the system, and a power cut must find what the marker says.
		if err = syncDisk(e.lock); err == nil {
			e.marker.Clean = true
			err = e.mark()
		}
	}
	err = errors.Join(err, e.lock.Close())
	e.lock = nil
	return err
}

// serverLog passes on what the server finds worth a warning.
type serverLog struct {
	log  *slog.Logger
	mu   sync.Mutex
	last string // fatal

	// Guarded by mu. A service that is refused comes again and again.
	errors uint64
	told   time.Time // when one was logged
	kept   int       // not logged since
}

// errorPause is between two lines about errors.
const errorPause = time.Second

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	l.last = fmt.Sprintf(format, v...)
	l.mu.Unlock()
	l.log.Error("NATS: " + fmt.Sprintf(format, v...))
}
func (l *serverLog) Errorf(format string, v ...any) {
	l.mu.Lock()
	now := time.Now()
	l.errors++
	if now.Sub(l.told) < errorPause {
		l.kept++
		l.mu.Unlock()
		return
	}
	kept := l.kept
	l.told, l.kept = now, 0
	l.mu.Unlock()
	l.log.Error("NATS: "+fmt.Sprintf(format, v...), "not_logged", kept)
}

// count is how many errors there were.
func (l *serverLog) count() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errors
}
func (l *serverLog) Warnf(format string, v ...any) { l.log.Warn("NATS: " + fmt.Sprintf(format, v...)) }
func (l *serverLog) Noticef(string, ...any)        {}
func (l *serverLog) Debugf(string, ...any)         {}
func (l *serverLog) Tracef(string, ...any)         {}
