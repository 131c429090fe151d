package gateway

import (
	"slices"
	"strings"
	"unicode/utf8"

	"roost/proto/client"
)

// action is what a client wants of a channel.
type action uint8

const (
	publishing action = iota
	seeing            // presence
	reading           // history
)

// namespace finds the rules for a channel name, or says why there are none.
func (n *Node) namespace(ch string) (*Namespace, error) {
	switch max := n.opts.MaxChannelLength; {
	case ch == "":
		return nil, client.BadRequest("channel is missing")
	case len(ch) > max:
		return nil, client.BadRequest("the channel name has %d bytes, at most %d are allowed", len(ch), max)
	case !utf8.ValidString(ch):
		return nil, client.BadRequest("the channel name is not UTF-8")
	}
	ns, rest := n.opts.Channels.of(ch)
	if ns == nil {
		return nil, client.ErrUnknownChannel
	}
	if ns.regex != nil && !ns.regex.MatchString(rest) {
		return nil, client.BadRequest("the channel name is not one that its namespace allows")
	}
	return ns, nil
}

// allowed tells whether a client may do something in a channel.
func (n *Node) allowed(s *session, ch string, a action) (*Namespace, error) {
	ns, err := n.namespace(ch)
	if err != nil {
		return nil, err
	}
	var forClient, forSubscriber, forAnonymous bool
	switch a {
	case publishing:
		forClient, forSubscriber, forAnonymous = ns.AllowPublishForClient, ns.AllowPublishForSubscriber, ns.AllowPublishForAnonymous
	case seeing:
		if !ns.hasPresence() {
			return nil, client.ErrNotAvailable
		}
		forClient, forSubscriber, forAnonymous = ns.AllowPresenceForClient, ns.AllowPresenceForSubscriber, ns.AllowPresenceForAnonymous
	case reading:
		if !ns.hasHistory() {
			return nil, client.ErrNotAvailable
		}
		forClient, forSubscriber, forAnonymous = ns.AllowHistoryForClient, ns.AllowHistoryForSubscriber, ns.AllowHistoryForAnonymous
	}
	switch {
	case ns.service != nil && a == publishing:
		return nil, errOfService
	case n.opts.Insecure,
		s.User != "" && forClient && mayFollow(ch, s.User),
		s.User == "" && forAnonymous && forClient && mayFollow(ch, ""):
		return ns, nil
	case forSubscriber && (s.User != "" || forAnonymous):
		if _, _, live := s.Subscription(ch); live {
			return ns, nil
		}
	}
	return nil, client.ErrPermissionDenied
}

// mayFollow tells whether a user-limited channel (name#user1,user2) names the user.
// Other channels do not limit.
func mayFollow(ch, user string) bool {
	_, users, limited := strings.Cut(ch, "#")
	return !limited || user != "" && slices.Contains(strings.Split(users, ","), user)
}

// maySubscribe tells whether a client may follow a channel without a token for it.
func (n *Node) maySubscribe(s *session, ns *Namespace, ch string) bool {
	if n.opts.Insecure {
		return true
	}
	if strings.Contains(ch, "#") {
		return ns.AllowUserLimitedChannels && mayFollow(ch, s.User)
	}
	if s.User == "" {
		return ns.AllowSubscribeForAnonymous && ns.AllowSubscribeForClient
	}
	return ns.AllowSubscribeForClient
}
