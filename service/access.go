package service

import "roost/broker"

// TellAccess has all gateways look again who may follow what belongs to a key. Errors: broker.ErrUnavailable.
func TellAccess(b *broker.Broker, name, key string) error {
	return b.Tell(accessSubject(b, name), []byte(key))
}

// HearAccess has f called with the keys of TellAccess, until stop. Errors: broker.ErrUnavailable.
func HearAccess(b *broker.Broker, name string, f func(key string)) (stop func(), err error) {
	return b.Answer(accessSubject(b, name), "", func(q *broker.Request) { f(string(q.Data)) })
}

func accessSubject(b *broker.Broker, name string) string {
	return b.Prefix() + ".svc." + name + ".access"
}
