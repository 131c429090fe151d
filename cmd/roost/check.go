package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"roost/conn"
	"roost/internal/config"
)

type checkCmd struct{ config.Config }

// Run makes all that serve would make from the configuration, but for what others
// would notice: it does not listen, and keeps its data in memory.
func (c *checkCmd) Run() error {
	for _, w := range slices.Concat(c.Warnings, c.Doubts(), c.Expired(time.Now())) {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	problems := c.Problems()
	if len(problems) == 0 {
		if err := c.provision(); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return refusal("check", problems)
	}
	_, err := fmt.Println("the configuration is good")
	return err
}

func (c *checkCmd) provision() error {
	log := slog.New(slog.DiscardHandler)
	backends, err := newBackends(c.Backends, log)
	if err != nil {
		return err
	}
	defer backends.set.Close()
	o := c.Gateway()
	o.Handlers = backends.set.Handlers()
	o.Broker.URLs, o.Broker.Dir, o.Broker.Memory, o.Broker.Replicas = nil, "", true, 1
	o.Broker.Listen.Address = ""
	node, verifier, err := newNode(o, c.Auth(), log)
	if err != nil {
		return err
	}
	if verifier != nil {
		defer verifier.Close()
	}
	if err := node.Open(nil); err != nil {
		return err
	}
	co := connOptions(&c.Config, log)
	co.Routes = node.Routes()
	server, err := conn.New(co)
	if err != nil {
		return errors.Join(err, node.Shutdown(context.Background()))
	}
	err = node.Start(server)
	return errors.Join(err, server.Shutdown(canceled()), node.Shutdown(context.Background()))
}
