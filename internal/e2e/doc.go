// Package e2e tests the built binaries with real clients: the Go SDK in both encodings,
// raw clients that send what no SDK would, several gateways on one NATS server, and
// processes that are killed. There is no code here but tests.
package e2e
