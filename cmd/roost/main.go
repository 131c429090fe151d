// Command roost is the gateway.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/alecthomas/kong"

	"roost/internal/config"
)

// version is set when the binary is built.
var version = "dev"

const (
	usageExit = 2 // for a command line that does not parse, as roost-load's
	// interruptExit is what shells say of a program that SIGINT ended.
	interruptExit = 130
)

// interrupted is the error of a command that was told to end before it was done.
type interrupted string

func (i interrupted) Error() string { return string(i) }

type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run the gateway."`
	Sync    syncCmd    `cmd:"" help:"Run the service sync in a process of its own, for gateways with --remote-services."`
	Upgrade upgradeCmd `cmd:"" help:"Start a new gateway that takes over from the running one of this configuration, without a disconnect."`
	Drain   drainCmd   `cmd:"" help:"Disconnect the clients of a running gateway, or a share of them, evenly over a time."`
	Check   checkCmd   `cmd:"" help:"Tell whether serve would start with this configuration, and what is wrong with it."`
	Health  healthCmd  `cmd:"" help:"Ask a running gateway of this configuration whether it is well; exit code 1 says no."`
	Token   tokenCmd   `cmd:"" help:"Make a token for trying, signed with --hmac-secret-key."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

type versionCmd struct{}

func (versionCmd) Run() error {
	_, err := fmt.Println("roost", version)
	return err
}

func main() {
	var c cli
	k := kong.Parse(&c,
		kong.Name("roost"),
		kong.Description("A WebSocket gateway for a great many mostly idle clients."),
		config.Environment(),
		kong.PostBuild(shortenHelp),
		kong.Exit(func(code int) { os.Exit(min(code, usageExit)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	err := k.Run()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "roost:", err)
	var told interrupted
	if errors.As(err, &told) {
		os.Exit(interruptExit)
	}
	os.Exit(1)
}

// shown are the settings that the help of a command names where it needs few of them.
var shown = map[string][]string{
	"token":  {"help", "config", "hmac-secret-key", "audience", "issuer"},
	"drain":  {"help", "config", "internal-address", "internal-tls-cert", "api-key"},
	"health": {"help", "config", "internal-address", "internal-tls-cert"},
	"sync":   {"help", "config", "internal-address", "nats", "nats-prefix", "nats-replicas", "sync-max-data", "sync-max-items", "sync-restricted", "sync-backends-create", "log-level", "log-format"},
}

// shortenHelp hides the other settings. They are all read nevertheless, so that these
// commands take the same file as serve.
func shortenHelp(k *kong.Kong) error {
	for _, command := range k.Model.Children {
		few := shown[command.Name]
		if few == nil {
			continue
		}
		for _, f := range command.Flags {
			f.Hidden = !slices.Contains(few, f.Name) && len(f.Envs) > 0
		}
	}
	return nil
}
