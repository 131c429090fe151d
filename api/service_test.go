package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"roost/service"
)

// shelf is a service of a test.
func shelf() Service {
	revision := uint64(3)
	return Service{
		Name: "shelf",
		Operations: []service.Operation{
			{Name: "item.put", Summary: "Put it.", Fields: []service.Field{{Name: "data", Text: "What.", Required: true}, {Name: "items", Type: "array", Text: "All."}}},
			{Name: "leave", Client: true},
		},
		Do: func(_ context.Context, op string, params []byte) ([]byte, error) {
			switch string(params) {
			case `"old"`:
				return nil, &service.Error{Code: 1408, Message: "old", Revision: &revision}
			case `"broken"`:
				return nil, errors.New("a secret")
			}
			return []byte(`{"op":"` + op + `","got":` + string(params) + `}`), nil
		},
	}
}

func TestServices(t *testing.T) {
	h := New(Options{Keys: []string{"k"}, Services: []Service{shelf()}})
	ask := func(path, body, key string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("X-API-Key", key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		path, body, key string
		status          int
		want            string
	}{
		{"/api/shelf/item.put", `{"data":1}`, "k", 200, `{"result":{"op":"item.put","got":{"data":1}}}`},
		{"/api/shelf/item.put", `{}`, "wrong", 401, `"code":101`},
		{"/api/shelf/item.put", `"old"`, "k", 200, `{"error":{"code":1408,"message":"old","revision":3}}`},
		{"/api/shelf/item.put", `"broken"`, "k", 200, `{"error":{"code":100,"message":"internal server error"}}`},
		{"/api/shelf/leave", `{}`, "k", 404, `"code":104`},
		{"/api/shelf/none", `{}`, "k", 404, `"code":104`},
		{"/api/none/item.put", `{}`, "k", 404, `"code":104`},
	} {
		if status, got := ask(c.path, c.body, c.key); status != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s %s: %d %s, want %d %s", c.path, c.body, status, got, c.status, c.want)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/openapi.json", nil))
	var all struct{ Paths map[string]json.RawMessage }
	if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(all.Paths["/api/shelf/item.put"]), `"required":["data"]`) || all.Paths["/api/shelf/leave"] != nil {
		t.Errorf("described as %s", all.Paths["/api/shelf/item.put"])
	}
}
