package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// MaxServices is how many connections a Listener takes at a time.
const MaxServices = 256

// Listener opens the embedded server to services in other processes, which may answer on
// their subjects and do nothing else: neither read nor write what the gateways tell each
// other, nor reach JetStream. What is spoken there is not encrypted.
type Listener struct {
	// Address is host:port; "" listens nowhere. Port 0 is a free one.
	Address string
	// User and Password of the services; without both, everyone who reaches Address is one.
	User, Password string
	// Serve are the subjects that services may subscribe to, each with all below it, and
	// whose requests they may answer.
	Serve []string
	// Publish are patterns of the subjects that they may publish on unasked. Who answers them there (see
	// Broker.Answer) is asked with an inbox below Serve.
	Publish []string
}

// Inside is the name of this process among the server's users, which no service may have.
const Inside = "roost"

func (l *Listener) validate(o *Options) error {
	switch {
	case l.Address == "":
		return nil
	case len(o.URLs) > 0:
		return errors.New("broker: only the embedded NATS can listen")
	case (l.User == "") != (l.Password == ""):
		return errors.New("broker: services need a user and a password, or neither")
	case l.User == Inside:
		return fmt.Errorf("broker: the user %q is the gateway itself", Inside)
	}
	for _, subject := range l.Serve {
		if Internal(o.Prefix, subject) {
			return fmt.Errorf("broker: the subject %s is not for services", subject)
		}
	}
	return nil
}

// listen changes the options of a server that listens nowhere. inside is the password of this
// process from then on.
func (l *Listener) listen(o *server.Options, inside string) error {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return fmt.Errorf("broker: address of the embedded NATS: %w", err)
	}
	if o.Port, err = net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("broker: address of the embedded NATS: %w", err)
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	o.Host, o.DontListen, o.MaxConn = host, false, MaxServices+8 // and those of this process
	may := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: append([]string{}, l.Publish...)}, // not nil, which would be all
		Subscribe: &server.SubjectPermission{Allow: []string{}},
		Response:  &server.ResponsePermission{MaxMsgs: 1, Expires: server.DEFAULT_ALLOW_RESPONSE_EXPIRATION},
	}
	for _, subject := range l.Serve {
		may.Subscribe.Allow = append(may.Subscribe.Allow, subject, subject+".>")
	}
	if len(l.Serve) == 0 {
		may.Subscribe.Deny = []string{">"}
	}
	service := &server.User{Username: l.User, Password: l.Password, Permissions: may}
	if l.User == "" {
		service.Username, service.Password = "service", rand.Text()
		o.NoAuthUser = service.Username
	}
	o.Users = []*server.User{{Username: Inside, Password: inside}, service}
	return nil
}

// within are the options by which this process connects to its own server, if it has one.
func (e *embedded) within() []nats.Option {
	switch {
	case e == nil:
		return nil
	case e.password == "":
		return []nats.Option{nats.InProcessServer(e)}
	}
	return []nats.Option{nats.InProcessServer(e), nats.UserInfo(Inside, e.password)}
}

// ListenAddr is where the embedded server listens, host:port; "" if nowhere.
func (b *Broker) ListenAddr() string {
	if b.server == nil || b.opts.Listen.Address == "" {
		return ""
	}
	b.server.mu.Lock()
	s := b.server.nats
	b.server.mu.Unlock()
	if s == nil {
		return ""
	}
	addr, ok := s.Addr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	return net.JoinHostPort(addr.IP.String(), strconv.Itoa(addr.Port))
}
