// Package setting notes in an error which setting of a configuration it is about, so
// that whoever has read the configuration can tell where that stands.
package setting

import "errors"

type wrong struct {
	error
	path []string
}

func (w wrong) Unwrap() error { return w.error }

// At notes that err is about the setting that path leads to: names of settings, names of
// entries, and places in lists as decimals from 0. What wraps it may lead there from
// further outside. The text stays as it is; nil stays nil.
func At(err error, path ...string) error {
	if err == nil {
		return nil
	}
	return wrong{err, path}
}

// Path returns the whole path to the setting that err is about, empty if nobody noted one.
func Path(err error) (path []string) {
	var w wrong
	for errors.As(err, &w) {
		path = append(path, w.path...)
		err = w.error
	}
	return path
}
