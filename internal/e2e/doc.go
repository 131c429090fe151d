// Package e2e tests the built binaries with real clients: the Go SDK in both encodings,
// raw clients that send what no SDK would, several gateways on a cluster of NATS servers, and
// processes that are killed. There is no code here but tests.
//
// The runs at random are small unless the environment asks for more:
//
//	ROOST_E2E_PUBLICATIONS, ROOST_E2E_CHANNELS   how many are published, to how many
//	ROOST_E2E_CLIENTS, ROOST_E2E_CHANNELS_EACH   how many follow how many of them
//	ROOST_E2E_EVENT_CLIENTS                      how many go, whose ends a backend is told
//	ROOST_E2E_AWAY_SECONDS                       how long NATS is gone
//	ROOST_E2E_SYNC_OPERATIONS                    how many operations on sync are tried
//
// 200,000 publications to 1,000 channels take some minutes on two cores. A history
// keeps 1,000 publications here and a recovery brings 300, so there should be no more
// for each channel. ROOST_E2E_BINARY names a roost to test instead of a fresh build.
package e2e
