// Command roost is the gateway.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
)

// version is set when the binary is built.
var version = "dev"

type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run the gateway."`
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
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "roost:", err)
		os.Exit(1)
	}
}
