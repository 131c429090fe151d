package service

// Operation describes one that callers may ask for.
type Operation struct {
	Name, Summary string
	Fields        []Field // of its parameters
	Client        bool    // only for clients, not for backends
}

// Field is a parameter of an operation.
type Field struct {
	Name, Type, Text string // Type is one of JSON Schema; "" is any
	Required         bool
}
