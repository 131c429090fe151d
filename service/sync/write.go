package sync

// operation is one that writes to an object, alone or in a batch.
type operation struct {
	kinds string // letters of the kinds it is for
	do    func(d *draft, p *params) error
	// manages says that it takes the right to manage, others the right to write.
	manages bool
}

// writes are the operations by name. set, merge and delete are about an item if they name one, else about the object.
var writes = map[string]operation{
	"set":         {kinds: "dml", do: (*draft).set},
	"merge":       {kinds: "dml", do: (*draft).merge},
	"map.set":     {kinds: "m", do: (*draft).itemSet},
	"map.insert":  {kinds: "m", do: (*draft).mapInsert},
	"map.merge":   {kinds: "m", do: (*draft).itemMerge},
	"map.delete":  {kinds: "m", do: (*draft).itemDelete},
	"list.push":   {kinds: "l", do: (*draft).listPush},
	"list.set":    {kinds: "l", do: (*draft).itemSet},
	"list.merge":  {kinds: "l", do: (*draft).itemMerge},
	"list.delete": {kinds: "l", do: (*draft).itemDelete},
	"set_ttl":     {kinds: "dmls", do: (*draft).setTTL},
	"delete":      {kinds: "dmls", do: (*draft).delete},
	"grant":       {kinds: "dmls", do: (*draft).grant, manages: true},
	"revoke":      {kinds: "dmls", do: (*draft).revoke, manages: true},
	"restrict":    {kinds: "dmls", do: (*draft).restrict, manages: true},
}

// rightOf is what it takes to do an operation: to delete the object takes more than to delete an item.
func rightOf(name string, p *params) right {
	if writes[name].manages || p.Key == nil && p.Index == nil && (name == "delete" || name == "set_ttl") {
		return toManage
	}
	return toWrite
}

// key returns the key of the item that an operation is about; with must the item must be there, in a list always.
func (d *draft) key(p *params, must bool) (string, error) {
	switch d.o.kind {
	case kindMap:
		if p.Index != nil {
			return "", failf(CodeInvalid, "a map has keys, no indexes")
		}
		if p.Key == nil {
			return "", failf(CodeInvalid, "key is missing")
		}
		if err := checkKey(*p.Key); err != nil {
			return "", err
		}
		if must && d.item(*p.Key) == nil {
			return "", failf(CodeUnknownItem, "there is no item %q", *p.Key)
		}
		return *p.Key, nil
	case kindList:
		if p.Key != nil {
			return "", failf(CodeInvalid, "a list has indexes, no keys")
		}
		if p.Index == nil {
			return "", failf(CodeInvalid, "index is missing")
		}
		if *p.Index >= d.next {
			return "", failf(CodeBadIndex, "index %d is out of range: the next item pushed gets %d", *p.Index, d.next)
		}
		key := indexKey(*p.Index)
		if d.item(key) == nil {
			return "", failf(CodeUnknownItem, "there is no item %d any more", *p.Index)
		}
		return key, nil
	}
	return "", failf(CodeInvalid, "a %s has no items", d.o.kind)
}

func (d *draft) set(p *params) error {
	if d.o.kind != kindDocument {
		return d.itemSet(p)
	}
	if err := d.whole(p); err != nil {
		return err
	}
	data, err := d.s.value(p.Data, "data")
	if err == nil {
		err = d.setData(p, data)
	}
	return err
}

// whole checks that an operation names no item, and the object's revision.
func (d *draft) whole(p *params) error {
	if p.Key != nil || p.Index != nil {
		return failf(CodeInvalid, "a %s has no items", d.o.kind)
	}
	return p.expect(d.o.revision)
}

func (d *draft) merge(p *params) error {
	if d.o.kind != kindDocument {
		return d.itemMerge(p)
	}
	if err := d.whole(p); err != nil {
		return err
	}
	data, err := d.s.merged(d.data, p.Data, "the document")
	if err == nil {
		err = d.setData(p, data)
	}
	return err
}

func (d *draft) itemSet(p *params) error {
	key, err := d.key(p, false)
	if err != nil {
		return err
	}
	if err := expectItem(p, d.item(key)); err != nil {
		return err
	}
	data, err := d.s.value(p.Data, "data")
	if err == nil {
		err = d.putItem(p, key, data)
	}
	return err
}

func (d *draft) mapInsert(p *params) error {
	key, err := d.key(p, false)
	if err != nil {
		return err
	}
	if i := d.item(key); i != nil {
		e := failf(CodeItemExists, "there is an item %q already, of revision %d", key, i.revision)
		e.Revision = &i.revision
		return e
	}
	return d.itemSet(p)
}

func (d *draft) itemMerge(p *params) error {
	key, err := d.key(p, true)
	if err != nil {
		return err
	}
	old := d.item(key)
	if err := expectItem(p, old); err != nil {
		return err
	}
	data, err := d.s.merged(old.data, p.Data, "the item")
	if err == nil {
		err = d.putItem(p, key, data)
	}
	return err
}

func (d *draft) itemDelete(p *params) error {
	key, err := d.key(p, true)
	if err == nil {
		err = expectItem(p, d.item(key))
	}
	if err == nil {
		d.removeItem(key, reasonUser)
	}
	return err
}

func (d *draft) listPush(p *params) error {
	all := p.Items
	switch {
	case p.Index != nil || p.Key != nil:
		return failf(CodeInvalid, "the service assigns the index of a pushed item")
	case len(all) > 0 && len(p.Data) > 0:
		return failf(CodeInvalid, "give either data, or items")
	case len(all) > maxOperations:
		return failf(CodeTooLarge, "%d items are pushed, at most %d are allowed at a time", len(all), maxOperations)
	case len(all) == 0:
		all = append(all, p.Data)
	}
	if err := p.expect(d.o.revision); err != nil {
		return err
	}
	for _, each := range all {
		data, err := d.s.value(each, "data")
		if err != nil {
			return err
		}
		if err := d.putItem(p, indexKey(d.next), data); err != nil {
			return err
		}
		d.next++
	}
	return nil
}

func (d *draft) setTTL(p *params) error {
	if p.TTL == nil {
		return failf(CodeInvalid, "ttl is missing")
	}
	expires, err := p.expiry(d.now, 0)
	if err != nil {
		return err
	}
	if p.Key == nil && p.Index == nil {
		d.events = append(d.events, event{Type: eventTTL, DateExpires: expires})
		d.expires = expires
		return nil
	}
	key, err := d.key(p, true)
	if err != nil {
		return err
	}
	e := d.about(eventTTL, key)
	e.Revision, e.DateExpires = 0, expires
	i := *d.item(key)
	i.expires = expires
	d.change(key, &i)
	d.events = append(d.events, e)
	return nil
}

// delete takes an item away, or the object.
func (d *draft) delete(p *params) error {
	if p.Key != nil || p.Index != nil {
		return d.itemDelete(p)
	}
	if err := p.expect(d.o.revision); err != nil {
		return err
	}
	d.remove(reasonUser)
	return nil
}
