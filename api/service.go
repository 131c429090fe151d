package api

import (
	"context"
	"encoding/json"

	"roost/service"
)

// Service is one whose operations are part of the API, under its name.
type Service struct {
	Name       string
	Operations []service.Operation
	// Do answers with JSON. Errors that are *service.Error reach the caller.
	Do func(ctx context.Context, op string, params []byte) ([]byte, error)
}

// operation returns one of the service's, or nil. A batch of the API does not hold it.
func (s *Service) operation(name string) *operation {
	for i := range s.Operations {
		if o := &s.Operations[i]; o.Name == name && !o.Client {
			return &operation{name: s.Name + "/" + name, call: func(ctx context.Context, _ Operations, params []byte) (any, error) {
				result, err := s.Do(ctx, name, params)
				return json.RawMessage(result), err
			}}
		}
	}
	return nil
}

// describe adds the service's operations to the description of the API.
func (s *Service) describe(paths object, failed object) {
	for _, o := range s.Operations {
		if o.Client {
			continue
		}
		request := object{"type": "object", "additionalProperties": false}
		properties, required := object{}, []string{}
		for _, f := range o.Fields {
			p := object{"description": f.Text}
			if f.Type != "" {
				p["type"] = f.Type
			}
			if f.Type == "array" {
				p["items"] = object{}
			}
			properties[f.Name] = p
			if f.Required {
				required = append(required, f.Name)
			}
		}
		request["properties"] = properties
		if len(required) > 0 {
			request["required"] = required
		}
		paths["/api/"+s.Name+"/"+o.Name] = post(s.Name+"."+o.Name, o.Summary, request, object{
			"type": "object", "properties": object{"result": object{"type": "object"}, "error": failed},
		})
	}
}
