package loadtest

import "strconv"

// How clients, channels and publications of a run belong together. Publication i of a run is number i/n of channel
// i%n, where n is the number of channels. Client g follows the channels g, g+1, ... modulo n; where every client
// has its own channels, they are g·Subscriptions and so on.

// speaks reports whether the connections speak the client protocol.
func (o *Options) speaks() bool {
	return o.Scenario == Clients || o.Scenario == Join || o.Scenario == RPC || o.Scenario == Upgrade || o.publishes()
}

// publishes reports whether the run publishes through the server's API.
func (o *Options) publishes() bool { return o.Scenario == Publish || o.Scenario == Reconnect }

// holds reports whether the run connects in steps and stays.
func (o *Options) holds() bool { return o.Scenario == Idle || o.Scenario == Clients }

// storms reports whether the run connects and closes, again and again.
func (o *Options) storms() bool { return o.Scenario == Storm || o.Scenario == Join }

// channel is the name of channel n.
func (o *Options) channel(n int64) string { return o.Channel + strconv.FormatInt(n, 10) }

// allChannels is how many there are in the run; o is the run's, not a share.
func (o *Options) allChannels() int {
	if o.Channels == 0 {
		return o.Connections * o.Subscriptions
	}
	return o.Channels
}

// channelOf is the channel of subscription k of client g.
func (o *Options) channelOf(g uint32, k int) int64 {
	if o.Channels == 0 {
		return int64(g)*int64(o.Subscriptions) + int64(k)
	}
	return (int64(g) + int64(k)) % int64(o.Channels)
}

// subscriptionOf is the inverse of channelOf for one client.
func (o *Options) subscriptionOf(g uint32, channel int64) (k int, ok bool) {
	n := int64(o.Channels)
	switch {
	case n == 0:
		channel -= int64(g) * int64(o.Subscriptions)
	case channel < 0 || channel >= n:
		return 0, false
	default:
		channel = (channel - int64(g)%n + n) % n
	}
	return int(channel), channel >= 0 && channel < int64(o.Subscriptions)
}

// published is how many of the first total publications are in a channel.
func (a *assignment) published(total, channel int64) int64 {
	return share(total, a.AllChannels, int(channel))
}
