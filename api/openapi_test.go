package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func description(t *testing.T) map[string]any {
	t.Helper()
	o, _ := options(&fake{})
	o.Version = "1.2.3"
	w := httptest.NewRecorder()
	New(o).ServeHTTP(w, httptest.NewRequest("GET", "/api/openapi.json", nil)) // without a key
	var d map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != http.StatusOK {
		t.Fatal(w.Code, err)
	}
	return d
}

// at follows names down a description.
func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok || m[name] == nil {
			t.Fatalf("no %q of %v", name, path)
		}
		v = m[name]
	}
	return v
}

// TestOperationsDescribed holds the table to the interface, and the description to the table.
func TestOperationsDescribed(t *testing.T) {
	d := description(t)
	if d["openapi"] != "3.1.0" || at(t, d, "info", "version") != "1.2.3" {
		t.Errorf("openapi %v, info %v", d["openapi"], d["info"])
	}
	methods := map[string]bool{}
	for m := range reflect.TypeFor[Operations]().Methods() {
		methods[strings.ToLower(m.Name)] = true
	}
	commands := at(t, d, "components", "schemas", "BatchRequest", "properties", "commands", "items", "properties")
	for _, o := range operations {
		post := at(t, d, "paths", "/api/"+o.name, "post")
		if at(t, post, "operationId") != o.name || at(t, post, "summary") != o.summary || !strings.HasSuffix(o.summary, ".") {
			t.Errorf("%s: %v", o.name, post)
		}
		schema := at(t, post, "requestBody", "content", "application/json", "schema", "$ref")
		if schema != "#/components/schemas/"+o.request.Name() || at(t, commands, o.name, "$ref") != schema {
			t.Errorf("%s: request %v", o.name, schema)
		}
		at(t, post, "responses", "200", "content", "application/json", "schema", "properties", "result", "$ref")
		at(t, post, "responses", "401", "description")
		delete(methods, strings.ReplaceAll(o.name, "_", ""))
	}
	if len(methods) > 0 {
		t.Errorf("not served: %v", methods)
	}
	if paths := at(t, d, "paths").(map[string]any); len(paths) != len(operations)+2 {
		t.Errorf("%d paths, want those of %d operations, batch and the old form", len(paths), len(operations))
	}
}

// TestFieldsDescribed finds members without words, and words without a member.
func TestFieldsDescribed(t *testing.T) {
	unused := maps.Clone(fields)
	unknown := maps.Clone(optional)
	for name, schema := range at(t, description(t), "components", "schemas").(map[string]any) {
		for member, p := range schema.(map[string]any)["properties"].(map[string]any) {
			if text, _ := p.(map[string]any)["description"].(string); !strings.HasSuffix(text, ".") {
				t.Errorf("%s.%s is described as %q", name, member, text)
			}
			key := name + "." + member
			delete(unknown, key)
			if fields[key] == "" {
				key = member
			}
			delete(unused, key)
		}
	}
	if len(unused)+len(unknown) > 0 {
		t.Errorf("no such members: %v %v", unused, unknown)
	}
}

// TestStructure checks what OpenAPI 3.1 and JSON Schema ask of any document, as far as
// this one uses them.
func TestStructure(t *testing.T) {
	d := description(t)
	ids := map[string]bool{}
	for path, item := range at(t, d, "paths").(map[string]any) {
		for verb, o := range item.(map[string]any) {
			id, _ := at(t, o, "operationId").(string)
			if !strings.HasPrefix(path, "/") || verb != "post" || ids[id] {
				t.Errorf("%s %s: operationId %q", verb, path, id)
			}
			ids[id] = true
			checkSchema(t, d, path, at(t, o, "requestBody", "content", "application/json", "schema"))
			for status, r := range at(t, o, "responses").(map[string]any) {
				at(t, r, "description")
				checkSchema(t, d, path+" "+status, at(t, r, "content", "application/json", "schema"))
			}
			for _, p := range at(t, o, "parameters").([]any) {
				at(t, p, "name")
				if at(t, p, "in") != "header" {
					t.Errorf("%s: parameter %v", path, p)
				}
				checkSchema(t, d, path, at(t, p, "schema"))
			}
		}
	}
	for name, s := range at(t, d, "components", "schemas").(map[string]any) {
		checkSchema(t, d, name, s)
	}
	for _, requirement := range at(t, d, "security").([]any) {
		for name := range requirement.(map[string]any) {
			at(t, d, "components", "securitySchemes", name, "type")
		}
	}
}

func checkSchema(t *testing.T, d map[string]any, where string, v any) {
	t.Helper()
	s := v.(map[string]any)
	if ref, ok := s["$ref"].(string); ok {
		name, local := strings.CutPrefix(ref, "#/components/schemas/")
		if !local || s["type"] != nil {
			t.Errorf("%s: $ref %q beside %v", where, ref, s)
		}
		at(t, d, "components", "schemas", name)
		return
	}
	known := []string{"type", "description", "format", "minimum", "contentEncoding", "items", "properties", "required", "additionalProperties", "minProperties", "enum"}
	for key := range s {
		if !slices.Contains(known, key) {
			t.Errorf("%s: keyword %q", where, key)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	switch s["type"] {
	case nil: // any JSON
		if len(s) > 1 {
			t.Errorf("%s: no type in %v", where, s)
		}
	case "string", "boolean", "integer":
	case "array":
		checkSchema(t, d, where+"[]", at(t, s, "items"))
	case "object":
		if additional := s["additionalProperties"]; additional != nil {
			checkSchema(t, d, where+"{}", additional)
		} else if properties == nil {
			t.Errorf("%s: an object without properties", where)
		}
	default:
		t.Errorf("%s: type %v", where, s["type"])
	}
	for name, p := range properties {
		checkSchema(t, d, where+"."+name, p)
	}
	if required, ok := s["required"].([]any); ok {
		for _, name := range required {
			if len(required) == 0 || properties[name.(string)] == nil {
				t.Errorf("%s: required %q is no property", where, name)
			}
		}
	}
}
