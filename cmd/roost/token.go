package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"roost/auth"
	"roost/internal/config"
)

type tokenCmd struct {
	config.Config

	User      string        `env:"-" required:"" help:"Whom the token is for."`
	TTL       time.Duration `name:"ttl" env:"-" help:"How long it is valid; 0 is for ever." default:"1h"`
	Channel   string        `env:"-" help:"Make a subscription token, for this channel."`
	Subscribe []string      `env:"-" placeholder:"CHANNEL" help:"Channel that the server subscribes the client to."`
	Info      string        `env:"-" placeholder:"JSON" help:"What others see beside the user."`
	Meta      string        `env:"-" placeholder:"JSON" help:"What only backends see."`
	ID        string        `name:"token-id" env:"-" help:"Id of the token (jti), by which it can be revoked."`
}

// Run prints a token.
func (t *tokenCmd) Run() error {
	for _, problem := range t.FileProblems() {
		return problem
	}
	if t.HMACSecretKey == "" {
		return errors.New("token: give the gateway's --hmac-secret-key, ROOST_HMAC_SECRET_KEY or --config FILE; without a secret, only who holds the private key can make one")
	}
	for flag, text := range map[string]string{"info": t.Info, "meta": t.Meta} {
		if text != "" && !json.Valid([]byte(text)) {
			return fmt.Errorf("token: --%s is not JSON: %s", flag, text)
		}
	}
	if t.TTL < 0 {
		return fmt.Errorf("token: --ttl is %v, must be 0 (for ever) or more", t.TTL)
	}
	token, err := t.sign()
	if err == nil {
		_, err = fmt.Println(token)
	}
	return err
}

func (t *tokenCmd) sign() (string, error) {
	if t.Channel != "" {
		return t.Auth().SignSubscribe(auth.Subscribe{User: t.User, Channel: t.Channel, ID: t.ID, Info: []byte(t.Info)}, t.TTL)
	}
	return t.Auth().SignConnect(auth.Connect{User: t.User, ID: t.ID, Info: []byte(t.Info), Meta: []byte(t.Meta), Channels: t.Subscribe}, t.TTL)
}
