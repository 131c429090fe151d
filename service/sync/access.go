package sync

import "roost/service"

// right is what a caller may do with an object.
type right uint8

const (
	toRead right = iota
	toWrite
	toManage
)

// everyone is the identity that stands for all, also those without a user.
const everyone = "*"

// maxGrants of an object.
const maxGrants = 1000

// allowed tells whether a caller may do something with an object. Where it is not restricted, everyone may.
func (o *object) allowed(c service.Caller, r right) bool {
	if c.Trusted || !o.restricted || c.User != "" && c.User == o.creator {
		return true
	}
	return may(o.grants[everyone], r) || c.User != "" && may(o.grants[c.User], r)
}

func may(g grant, r right) bool {
	switch r {
	case toRead:
		return g.Read
	case toWrite:
		return g.Write
	}
	return g.Manage
}

func (o *object) check(c service.Caller, r right) error {
	if o.allowed(c, r) {
		return nil
	}
	return failf(CodeNoPermission, "no permission to %s this %s", [...]string{"read", "write to", "manage"}[r], o.kind)
}

// identity checks that of a grant.
func (p *params) identity() error {
	if p.Identity == "" || len(p.Identity) > maxIdentity {
		return failf(CodeInvalid, "identity has %d bytes, must be the user's id, or * for everyone, of 1 to %d", len(p.Identity), maxIdentity)
	}
	return nil
}

// grant sets what an identity may do.
func (d *draft) grant(p *params) error {
	if err := p.identity(); err != nil {
		return err
	}
	a := d.accessNow()
	if g := (grant{p.Read, p.Write, p.Manage}); g == (grant{}) {
		return failf(CodeInvalid, "grant read, write or manage, or use revoke")
	} else {
		a.Grants[p.Identity] = g
	}
	if len(a.Grants) > maxGrants {
		return failf(CodeFull, "the object has permissions for %d identities, at most %d are allowed", len(d.o.grants), maxGrants)
	}
	d.events = append(d.events, event{Type: eventAccess})
	return nil
}

func (d *draft) revoke(p *params) error {
	if err := p.identity(); err != nil {
		return err
	}
	delete(d.accessNow().Grants, p.Identity)
	d.events = append(d.events, event{Type: eventAccess})
	return nil
}

// restrict turns permissions on or off.
func (d *draft) restrict(p *params) error {
	if p.Restricted == nil {
		return failf(CodeInvalid, "restricted is missing: true or false")
	}
	d.accessNow().Restricted = *p.Restricted
	d.events = append(d.events, event{Type: eventAccess})
	return nil
}
