package loadtest

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
)

// called answers rpc commands of the fake gateway by their method.
func called(cmd *protocol.Command, r *protocol.Reply) {
	data := bytes.Clone(cmd.Rpc.Data)
	switch cmd.Rpc.Method {
	case "wrong":
		data[len(data)-2] ^= 1
	case "fail":
		r.Error = &protocol.Error{Code: 100, Message: "internal server error"}
		return
	case "empty":
		data = nil
	case "twice":
		r.Id++ // somebody else's
	}
	r.Rpc = &protocol.RPCResult{Data: data}
}

func rpcOptions(t *testing.T, g *gateway) Options {
	o := protocolOptions(RPC, g, t)
	o.Method, o.BystanderMethod, o.InFlight, o.BystanderRate, o.Verify = "echo", "echo", 1, 1000, true
	return o
}

func TestRPC(t *testing.T) {
	for name, set := range map[string]func(o *Options){
		"closed loop":           func(*Options) {},
		"many at once":          func(o *Options) { o.InFlight = 7 },
		"two loops":             func(o *Options) { o.InFlight, o.Threads = 3, 2 },
		"two processes":         func(o *Options) { o.Processes, o.Protocol = 2, "protobuf" },
		"at a rate":             func(o *Options) { o.Rate, o.InFlight, o.Protocol = 5000, 2, "protobuf" },
		"at a rate beyond hope": func(o *Options) { o.Rate, o.Messages, o.Duration = 1e9, 0, 50*time.Millisecond },
		"by time":               func(o *Options) { o.Messages, o.Duration = 0, 50*time.Millisecond },
		"with bystanders":       func(o *Options) { o.Bystanders, o.Messages, o.Duration = 2, 0, 100*time.Millisecond },
		"bystanders alone":      func(o *Options) { o.Bystanders, o.Messages, o.Duration = o.Connections, 0, 100*time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			o := rpcOptions(t, &gateway{})
			set(&o)
			r := mustRun(t, t.Context(), o)
			beside := int64(0)
			if v := r.Calls.Bystanders; v != nil {
				beside = r.Messages.Received - r.Calls.Results
			}
			if !r.OK() || r.Messages.Sent != r.Messages.Received || r.Calls.Results+beside != r.Messages.Sent || r.Messages.Sent == 0 {
				t.Errorf("%+v, %+v, %v", r.Messages, r.Calls, r.Errors)
			}
			if (o.Bystanders > 0) != (r.Calls.Bystanders != nil) || (o.Bystanders < o.Connections) != (r.Latency != nil) {
				t.Errorf("latency %+v, of bystanders %+v", r.Latency, r.Calls.Bystanders)
			}
			if o.Messages > 0 && r.Calls.Results != o.Messages {
				t.Errorf("%d results, want %d", r.Calls.Results, o.Messages)
			}
		})
	}
}

// TestRPCFailures: what a backend does wrong is counted as what it is.
func TestRPCFailures(t *testing.T) {
	for method, c := range map[string]struct {
		set   func(o *Options)
		wrong bool
	}{
		"wrong": {func(*Options) {}, true},
		"empty": {func(*Options) {}, true},
		"fail":  {func(*Options) {}, false},
		"twice": {func(o *Options) { o.Timeout = 300 * time.Millisecond }, true},
	} {
		t.Run(method, func(t *testing.T) {
			o := rpcOptions(t, &gateway{})
			o.Method = method
			c.set(&o)
			r := mustRun(t, t.Context(), o)
			if r.OK() || (r.Messages.Wrong > 0) != c.wrong {
				t.Errorf("%+v, %+v, %v", r.Messages, r.Calls, r.Errors)
			}
			if method == "fail" && (len(r.Calls.Errors) != 1 || r.Calls.Errors[0] != (ErrorCount{"100: internal server error", o.Messages})) {
				t.Errorf("%+v", r.Calls.Errors)
			}
		})
	}
	o := rpcOptions(t, &gateway{})
	o.Method, o.AllowErrors = "fail", true
	if r := mustRun(t, t.Context(), o); !r.OK() || r.Calls.Results != 0 {
		t.Errorf("allowed errors: %+v, %v", r.Calls, r.Errors)
	}
	o = rpcOptions(t, &gateway{})
	o.Method, o.Verify = "empty", false
	if r := mustRun(t, t.Context(), o); !r.OK() || r.Calls.Results != o.Messages {
		t.Errorf("anything goes: %+v, %+v, %v", r.Calls, r.Messages, r.Errors)
	}
}

func TestRPCTable(t *testing.T) {
	o := rpcOptions(t, &gateway{})
	o.Method, o.Bystanders, o.Messages, o.Duration = "fail", 2, 0, 50*time.Millisecond
	var out strings.Builder
	if err := WriteTable(&out, []*Result{mustRun(t, t.Context(), o)}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"latency of bystanders", "answered with error", "× 100: internal server error", "0 per second"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
}

func TestRPCOptions(t *testing.T) {
	for want, set := range map[string]func(o *Options){
		"--in-flight 0":    func(o *Options) { o.InFlight = 0 },
		"--in-flight 2000": func(o *Options) { o.InFlight = 2000 },
		"--bystanders -1":  func(o *Options) { o.Bystanders = -1 },
		"--bystanders 999": func(o *Options) { o.Bystanders = 999 },
		"--bystander-rate": func(o *Options) { o.BystanderRate = 0 },
		"--method and":     func(o *Options) { o.Method = "" },
		"--size 20":        func(o *Options) { o.Size = 20 },
	} {
		o := rpcOptions(t, &gateway{})
		set(&o)
		if err := o.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
