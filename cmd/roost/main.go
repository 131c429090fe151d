// Command roost is the gateway.
package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/alecthomas/kong"

	"roost/internal/config"
)

// version is set when the binary is built.
var version = "dev"

// usageExit is the exit code for a command line that does not parse, as roost-load's.
const usageExit = 2

type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run the gateway."`
	Check   checkCmd   `cmd:"" help:"Tell whether serve would start with this configuration, and what is wrong with it."`
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
		kong.PostBuild(shortenToken),
		kong.Exit(func(code int) { os.Exit(min(code, usageExit)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "roost:", err)
		os.Exit(1)
	}
}

// shortenToken hides from the help of token what has no part in making one. It is all
// read nevertheless, so that token takes the same file as serve.
func shortenToken(k *kong.Kong) error {
	shown := []string{"help", "config", "hmac-secret-key", "audience", "issuer"}
	for _, command := range k.Model.Children {
		if command.Name != "token" {
			continue
		}
		for _, f := range command.Flags {
			f.Hidden = !slices.Contains(shown, f.Name) && len(f.Envs) > 0
		}
	}
	return nil
}
