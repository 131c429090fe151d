package gateway

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"roost/internal/setting"
)

// Channels is the configuration of all channels: what holds for those without a
// namespace, and the namespaces by name. A channel "news:de" is in namespace "news".
type Channels struct {
	// Default holds for channels whose name has no namespace.
	Default Namespace `yaml:"default" json:"default"`
	// Namespaces by name, [A-Za-z0-9_.-]{1,64}.
	Namespaces map[string]Namespace `yaml:"namespaces" json:"namespaces"`
	// Personal subscribes each identified client to PersonalNamespace:#USER on connect.
	Personal          bool   `yaml:"personal" json:"personal"`
	PersonalNamespace string `yaml:"personal-namespace" json:"personal-namespace"`

	named map[string]*Namespace // prepared by Validate, so that looking one up copies nothing
}

// Namespace says what clients may do in a group of channels. The zero value allows
// nothing but subscribing with a token.
type Namespace struct {
	Presence  bool `yaml:"presence" json:"presence"`
	JoinLeave bool `yaml:"join-leave" json:"join_leave"`
	// ForceJoinLeave sends join and leave to clients that did not ask for them.
	ForceJoinLeave bool `yaml:"force-join-leave" json:"force_join_leave"`
	// HistorySize is the number of publications kept, HistoryTTL for how long; both
	// or none.
	HistorySize int           `yaml:"history-size" json:"history_size"`
	HistoryTTL  time.Duration `yaml:"history-ttl" json:"history_ttl"`
	// ForceRecovery makes every subscription recoverable; ForcePositioning checks
	// continuity without recovering.
	ForceRecovery    bool `yaml:"force-recovery" json:"force_recovery"`
	ForcePositioning bool `yaml:"force-positioning" json:"force_positioning"`
	// RecoveryMode is "stream" (all that was missed) or "cache" (the latest only).
	RecoveryMode string `yaml:"recovery-mode" json:"recovery_mode"`
	// Delta allows clients to ask for fossil deltas.
	Delta bool `yaml:"delta" json:"delta"`
	// TagsFilter allows clients to filter publications by tags.
	TagsFilter bool `yaml:"tags-filter" json:"tags_filter"`

	AllowSubscribeForClient     bool `yaml:"allow-subscribe-for-client" json:"allow_subscribe_for_client"`
	AllowSubscribeForAnonymous  bool `yaml:"allow-subscribe-for-anonymous" json:"allow_subscribe_for_anonymous"`
	AllowPublishForClient       bool `yaml:"allow-publish-for-client" json:"allow_publish_for_client"`
	AllowPublishForSubscriber   bool `yaml:"allow-publish-for-subscriber" json:"allow_publish_for_subscriber"`
	AllowPublishForAnonymous    bool `yaml:"allow-publish-for-anonymous" json:"allow_publish_for_anonymous"`
	AllowPresenceForClient      bool `yaml:"allow-presence-for-client" json:"allow_presence_for_client"`
	AllowPresenceForSubscriber  bool `yaml:"allow-presence-for-subscriber" json:"allow_presence_for_subscriber"`
	AllowPresenceForAnonymous   bool `yaml:"allow-presence-for-anonymous" json:"allow_presence_for_anonymous"`
	AllowHistoryForClient       bool `yaml:"allow-history-for-client" json:"allow_history_for_client"`
	AllowHistoryForSubscriber   bool `yaml:"allow-history-for-subscriber" json:"allow_history_for_subscriber"`
	AllowHistoryForAnonymous    bool `yaml:"allow-history-for-anonymous" json:"allow_history_for_anonymous"`
	AllowUserLimitedChannels    bool `yaml:"allow-user-limited-channels" json:"allow_user_limited_channels"`
	SubscriptionsPerChannelNode int  `yaml:"subscriptions-per-channel" json:"subscriptions_per_channel"`
	// PublishRate is the publications a client may send per second; 0 is no limit.
	PublishRate int `yaml:"publish-rate" json:"publish_rate"`
	// ChannelRegex, if set, must match the part of the name after the namespace.
	ChannelRegex string `yaml:"channel-regex" json:"channel_regex"`

	// SubscribeBackend and PublishBackend are who decides on clients' subscriptions
	// without a token, and on publications, instead of the allow options for these.
	SubscribeBackend string `yaml:"subscribe-backend" json:"subscribe_backend"`
	PublishBackend   string `yaml:"publish-backend" json:"publish_backend"`
	// SubRefreshBackend is asked about subscriptions that expire, before they do.
	SubRefreshBackend string `yaml:"sub-refresh-backend" json:"sub_refresh_backend"`

	regex   *regexp.Regexp
	service *Service // whose channels these are; nil for all but those of Options.Services
}

// Recovery modes.
const (
	RecoveryStream = "stream"
	RecoveryCache  = "cache"
)

var namespaceName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// Open is what --dev gives to channels without a namespace: everyone may do
// everything, and nothing is lost over a short disconnect.
func Open() Namespace {
	return Namespace{
		Presence: true, JoinLeave: true,
		HistorySize: 100, HistoryTTL: 300 * time.Second, ForceRecovery: true,
		Delta: true, TagsFilter: true,
		AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true,
		AllowPublishForClient: true, AllowPublishForAnonymous: true,
		AllowPresenceForClient: true, AllowPresenceForAnonymous: true,
		AllowHistoryForClient: true, AllowHistoryForAnonymous: true,
		AllowUserLimitedChannels: true,
	}
}

// Validate returns the Problems of c, joined, or prepares c for use.
func (c *Channels) Validate() error {
	if err := errors.Join(c.Problems()...); err != nil {
		return err
	}
	c.Default.prepare()
	c.named = make(map[string]*Namespace, len(c.Namespaces))
	for name, ns := range c.Namespaces {
		ns.prepare()
		c.named[name] = &ns
	}
	return nil
}

// Problems returns all that is wrong with c. The texts name the namespace and the field.
func (c *Channels) Problems() (all []error) {
	for _, err := range c.Default.problems() {
		all = append(all, setting.At(fmt.Errorf("channels default: %w", err), "default"))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		at := func(err error) {
			all = append(all, setting.At(fmt.Errorf("namespace %q: %w", name, err), "namespaces", name))
		}
		if !namespaceName.MatchString(name) {
			at(errors.New("a name is 1 to 64 of A-Z a-z 0-9 _ . -"))
		}
		ns := c.Namespaces[name]
		for _, err := range ns.problems() {
			at(err)
		}
	}
	if _, ok := c.Namespaces[c.PersonalNamespace]; c.PersonalNamespace != "" && !ok {
		all = append(all, setting.At(fmt.Errorf("personal-namespace %q is not among the namespaces", c.PersonalNamespace), "personal-namespace"))
	}
	return all
}

func (n *Namespace) problems() (all []error) {
	wrong := func(bad bool, key, format string, args ...any) {
		if bad {
			all = append(all, setting.At(fmt.Errorf(format, args...), key))
		}
	}
	wrong(n.HistorySize < 0 || n.HistorySize > maxHistorySize, "history-size", "history-size is %d, must be 0 to %d", n.HistorySize, maxHistorySize)
	wrong(n.HistoryTTL < 0, "history-ttl", "history-ttl is %v, must be 0s or more", n.HistoryTTL)
	wrong(n.HistorySize > 0 && n.HistoryTTL == 0, "history-size", bothHistory, n.HistorySize, n.HistoryTTL)
	wrong(n.HistorySize == 0 && n.HistoryTTL > 0, "history-ttl", bothHistory, n.HistorySize, n.HistoryTTL)
	for _, r := range []struct {
		needs bool
		key   string
	}{{n.ForceRecovery, "force-recovery"}, {n.ForcePositioning, "force-positioning"}, {n.Delta && n.RecoveryMode == RecoveryCache, "recovery-mode"}} {
		wrong(r.needs && n.HistorySize == 0 && n.HistoryTTL == 0, r.key, "%s: recovery and positioning need history-size and history-ttl", r.key)
	}
	wrong(n.RecoveryMode != "" && n.RecoveryMode != RecoveryStream && n.RecoveryMode != RecoveryCache, "recovery-mode",
		"recovery-mode is %q, must be %q or %q", n.RecoveryMode, RecoveryStream, RecoveryCache)
	wrong(n.SubscribeBackend != "" && (n.AllowSubscribeForClient || n.AllowSubscribeForAnonymous), "subscribe-backend",
		"subscribe-backend and allow-subscribe-for-client or -anonymous both say who may subscribe: keep one")
	wrong(n.PublishBackend != "" && (n.AllowPublishForClient || n.AllowPublishForSubscriber || n.AllowPublishForAnonymous), "publish-backend",
		"publish-backend and allow-publish-for-client, -subscriber or -anonymous both say who may publish: keep one")
	wrong(n.PublishRate < 0, "publish-rate", "publish-rate is %d, must be 0 (no limit) or more", n.PublishRate)
	wrong(n.SubscriptionsPerChannelNode < 0, "subscriptions-per-channel", "subscriptions-per-channel is %d, must be 0 (no limit) or more", n.SubscriptionsPerChannelNode)
	_, err := regexp.Compile(n.wholeRegex())
	wrong(err != nil, "channel-regex", "channel-regex: %w", err)
	return all
}

const bothHistory = "history-size (%d) and history-ttl (%v) must both be set or both be 0"

func (n *Namespace) wholeRegex() string { return `^(?:` + n.ChannelRegex + `)$` }

// prepare makes what is used of a namespace without problems.
func (n *Namespace) prepare() {
	n.regex = nil
	if n.ChannelRegex != "" {
		n.regex = regexp.MustCompile(n.wholeRegex())
	}
}

// maxHistorySize bounds what one channel may keep.
const maxHistorySize = 100_000

// of returns the namespace of a channel, nil if it is unknown, and the rest of the name.
// After Validate.
func (c *Channels) of(ch string) (ns *Namespace, rest string) {
	name, rest, found := strings.Cut(ch, ":")
	if !found {
		return &c.Default, ch
	}
	return c.named[name], rest
}
