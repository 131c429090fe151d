package api

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strings"

	"roost/gateway"
)

// object is a JSON object of the description.
type object map[string]any

// describe returns the OpenAPI 3.1 description of the API, from the Go types of the
// operations' requests and results.
func describe(version string, services []Service) []byte {
	s := schemas{}
	ref := func(t reflect.Type) object { return s.of(t) }
	failed := ref(reflect.TypeFor[gateway.OperationError]())
	paths, commands, replies := object{}, object{}, object{"error": failed}
	for _, o := range operations {
		request, result := ref(o.request), ref(o.result)
		commands[o.name], replies[o.name] = request, result
		paths["/api/"+o.name] = post(o.name, o.summary, request, object{
			"type": "object", "properties": object{"result": result, "error": failed},
		})
	}
	batched := ref(reflect.TypeFor[BatchRequest]())
	s["BatchRequest"]["properties"].(object)["commands"].(object)["items"] = object{
		"type": "object", "properties": commands, "minProperties": 1,
		"description": "An operation's request under its name.",
	}
	paths["/api/"+batch] = post(batch, "Run several operations.", batched, object{
		"type": "object", "required": []string{"replies"},
		"properties": object{"replies": object{
			"type": "array", "description": "One for each command, in order.",
			"items": object{"type": "object", "properties": replies},
		}},
	})
	for i := range services {
		services[i].describe(paths, failed)
	}
	old := post("command", "Run operations in the form of older libraries: JSON objects, one by line, answered one by line.",
		ref(reflect.TypeFor[Command]()), ref(reflect.TypeFor[Reply]()))
	old["post"].(object)["deprecated"] = true
	paths["/api"] = old
	return encode(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "roost server API", "version": cmp.Or(version, "0"),
			"description": "Publish to channels, see who is there, read history, and manage clients. Unknown members of requests are ignored.",
		},
		"security": []object{{"key": []string{}}, {"authorization": []string{}}},
		"paths":    paths,
		"components": object{
			"schemas": s,
			"securitySchemes": object{
				"key":           object{"type": "apiKey", "in": "header", "name": "X-API-Key"},
				"authorization": object{"type": "apiKey", "in": "header", "name": "Authorization", "description": "The word apikey, a space, and the key."},
			},
		},
	})
}

// post is the path item of a method.
func post(name, summary string, request, reply object) object {
	content := func(schema object) object { return object{"application/json": object{"schema": schema}} }
	responses := object{"200": object{"description": "The result, or the error of the operation.", "content": content(reply)}}
	refused := object{"type": "object", "properties": object{"error": object{"$ref": "#/components/schemas/OperationError"}}}
	for status, why := range map[string]string{
		"400": "The body is not JSON, or a member has the wrong type; the message says where.",
		"401": "The key is missing or wrong.",
		"413": "The body is too large.",
	} {
		responses[status] = object{"description": why, "content": content(refused)}
	}
	return object{"post": object{
		"operationId": name, "summary": summary, "responses": responses,
		"requestBody": object{"required": true, "content": content(request)},
		"parameters": []object{{
			"in": "header", "name": "X-Centrifugo-Error-Mode", "schema": object{"type": "string", "enum": []string{"transport"}},
			"description": "Answer an operation's error with an HTTP status of its own and the bare error as the body.",
		}},
	}}
}

// schemas are the descriptions of struct types by their names.
type schemas map[string]object

// of returns the schema of a type, which for a struct is a reference.
func (s schemas) of(t reflect.Type) object {
	if simple := simple(t); simple != nil {
		if simple["type"] == "array" {
			simple["items"] = s.of(t.Elem())
		}
		return simple
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	}
	if s[t.Name()] == nil {
		s[t.Name()] = s.structure(t)
	}
	return object{"$ref": "#/components/schemas/" + t.Name()}
}

func (s schemas) structure(t reflect.Type) object {
	properties, required := object{}, []string{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := s.of(f.Type)
		key := t.Name() + "." + name
		p["description"] = cmp.Or(fields[key], fields[name])
		properties[name] = p
		if options != "omitempty" && !optional[key] {
			required = append(required, name)
		}
	}
	out := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// simple is the schema of a type that is no JSON object, as far as it needs no other
// type's, or nil.
func simple(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return object{}
	case t == reflect.TypeFor[[]byte]():
		return object{"type": "string", "contentEncoding": "base64"}
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int32, reflect.Int64:
		return object{"type": "integer", "format": t.Kind().String()}
	case reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Slice:
		return object{"type": "array"}
	}
	return nil
}

// optional are members of requests that may be left out though they are in Go always
// there, by type.
var optional = map[string]bool{
	"SubscribeRequest.user": true, "UnsubscribeRequest.user": true, "UnsubscribeRequest.channel": true,
	"DisconnectRequest.user": true, "DisconnectCode.reason": true, "RefreshRequest.user": true,
	"ConnectionsRequest.user": true,
}

// fields describe members by name, those that differ by type and name.
var fields = map[string]string{
	"b64data":                         "Instead of data: bytes that need not be JSON, in base64.",
	"chan_info":                       "What the subscription says about the client.",
	"channel":                         "Name of the channel.",
	"client":                          "Id of one connection; the others of the user are left alone.",
	"code":                            "Code of the error.",
	"commands":                        "What to run.",
	"conn_info":                       "What the connection says about the client.",
	"connected_at":                    "When it connected, in Unix seconds, to ten of them.",
	"connections":                     "Connections by client id.",
	"data":                            "Any JSON, passed on as it is.",
	"done":                            "Of these, those that were disconnected or have gone.",
	"percent":                         "Share of the clients, 1 to 100.",
	"seconds":                         "Over which they go, 0 to 86400.",
	"state":                           "serving, shedding, draining or drained.",
	"total":                           "Clients that the drain is about.",
	"until":                           "When the last of them are to go, in Unix seconds; 0 where no drain goes on.",
	"delta":                           "Let subscribers that ask for deltas get this publication as one.",
	"disconnect":                      "What the close frame says; by default 3503, after which clients stay away.",
	"epoch":                           "Identifies the stream that offsets count in.",
	"error":                           "Why there is no result.",
	"expire_at":                       "When that ends, in Unix seconds; 0 or none: a year from now.",
	"expired":                         "Let the connections expire now.",
	"expression":                      "Not supported, must be empty.",
	"force_positioning":               "Whether gaps in the stream are watched for.",
	"force_push_join_leave":           "Whether the client is told who joins and leaves.",
	"force_recovery":                  "Whether the client may recover missed publications.",
	"id":                              "Comes back in the reply.",
	"idempotency_key":                 "A publication whose key the channel has seen in the last five minutes is not published again.",
	"info":                            "Any JSON about the client, shown in presence.",
	"issued_before":                   "In Unix seconds; 0 or none: now.",
	"join_leave":                      "Whether others are told that the client joins and leaves.",
	"last_seen":                       "When the user was last connected, in Unix seconds; now if online, none if unknown.",
	"limit":                           "How many publications; 0 or none: only the position, -1: all.",
	"message":                         "What went wrong, in words.",
	"method":                          "Name of the operation.",
	"name":                            "Name of the node.",
	"node":                            "Id of the node that holds the connection.",
	"nodes":                           "All nodes that answered.",
	"num_channels":                    "Channels with subscribers.",
	"opcode":                          "Frame that clients of raw routes get: text or binary.",
	"num_clients":                     "Connected clients.",
	"num_subs":                        "Subscriptions.",
	"num_users":                       "Different users.",
	"offset":                          "Position in the channel's stream.",
	"online":                          "Whether the user has a connection.",
	"override":                        "Differs from the options of the channel's namespace.",
	"parallel":                        "Run the commands at the same time; the replies are in order nevertheless.",
	"params":                          "Request of the operation.",
	"pattern":                         "Which channels: * any characters but /, ? one, [a-z] a class; empty: all.",
	"presence":                        "Whether the client is shown in presence.",
	"protocol":                        "Encoding of its messages.",
	"publications":                    "Oldest first, unless asked in reverse.",
	"reason":                          "Up to 123 bytes for the client.",
	"recover_since":                   "Send what was published after this position, too.",
	"responses":                       "One for each channel, in order.",
	"result":                          "What the operation returns.",
	"reverse":                         "Newest first.",
	"session":                         "Accepted for compatibility.",
	"since":                           "Publications after this position, or before it in reverse.",
	"skip_history":                    "Send it to subscribers without keeping it.",
	"statuses":                        "One for each user, in order.",
	"tags":                            "Strings that subscribers may filter by.",
	"time":                            "When it was published, in Unix milliseconds.",
	"transport":                       "How the client is connected.",
	"uid":                             "Id of the node.",
	"uptime":                          "Seconds since the node started.",
	"user":                            "Id of the user.",
	"users":                           "Ids of users.",
	"value":                           "On or off.",
	"version":                         "Version of the data; what is not above the channel's last is not published. Needs history.",
	"version_epoch":                   "Versions count within it; a change starts anew.",
	"whitelist":                       "Ids of connections that stay.",
	"BroadcastRequest.channels":       "Channels to publish to.",
	"ChannelInfo.num_clients":         "Subscribers of the channel.",
	"ChannelsResult.channels":         "What is known of each channel, by name.",
	"ClientInfo.client":               "Id of the connection.",
	"ClientInfo.user":                 "Id of the user; empty for nobody.",
	"ConnectionInfo.channels":         "What it is subscribed to.",
	"ConnectionsRequest.user":         "Id of the user; empty: all.",
	"DisconnectCode.code":             "3000 to 4999; clients stay away after 3500 to 3999 and from 4500.",
	"NodeInfo.version":                "Version of roost.",
	"PresenceResult.presence":         "Clients by id.",
	"PresenceStatsResult.num_clients": "Clients that follow the channel.",
	"Publication.b64data":             "Instead of data, where that is not JSON.",
	"Publication.info":                "Who published it, if a client did.",
	"RPCRequest.method":               "Name of the backend's method.",
	"RPCRequest.params":               "Any JSON for it.",
	"RPCResult.data":                  "The backend's answer.",
	"RefreshRequest.expire_at":        "When the connections expire, in Unix seconds; 0 or none: never.",
	"Reply.id":                        "That of the command.",
	"RevokeTokenRequest.uid":          "The token's jti claim.",
	"SubscribeRequest.data":           "Any JSON for the client, with the news of its subscription.",
	"SubscribeRequest.expire_at":      "When the subscription expires, in Unix seconds; 0 or none: never.",
	"UnsubscribeRequest.channel":      "Name of the channel; empty: all.",
}
