//go:build !linux || portable

package main

import (
	"errors"
	"log/slog"

	"roost/internal/config"
)

// succession is what only Linux has.
type succession struct{}

func (*serveCmd) openSuccession(*process, *slog.Logger) (*succession, error) {
	return &succession{}, nil
}

func (*succession) given() <-chan struct{} { return nil }

func (*succession) end() bool { return false }

func (*serveCmd) takeOver(*slog.Logger) (*process, bool, error) {
	return nil, false, errors.New("--takeover works on Linux with epoll only")
}

type upgradeCmd struct{ config.Config }

// Run says why not.
func (upgradeCmd) Run() error { return errors.New("upgrade works on Linux with epoll only") }

func step(string) {}
