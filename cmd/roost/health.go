package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"

	"roost/internal/config"
)

type healthCmd struct {
	config.Config
	remote

	Ready bool `env:"-" help:"Ask whether clients should come here, not only whether it runs."`
}

// Run asks a gateway, by default that of this configuration, for containers that hold nothing but
// the binary.
func (h *healthCmd) Run() error {
	for _, problem := range h.FileProblems() {
		return fmt.Errorf("health: %w", problem)
	}
	path := "/health"
	if h.Ready {
		path = "/ready"
	}
	base, name := h.asked(&h.Config)
	// Nothing is told to whoever answers.
	res, err := h.client(&h.Config, &tls.Config{InsecureSkipVerify: true}).Get(base + path)
	if err != nil {
		return fmt.Errorf("health: no answer from %s: %w", name, err)
	}
	defer res.Body.Close()
	why, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s says %d: %s", path, res.StatusCode, strings.TrimSpace(string(why)))
	}
	_, err = fmt.Println("ok")
	return err
}
