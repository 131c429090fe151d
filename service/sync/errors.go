package sync

import "roost/service"

// Codes of errors. They do not change.
const (
	CodeInvalid       = service.CodeInvalid
	CodeTooLarge      = service.CodeTooLarge
	CodeUnknownObject = 1402
	CodeNoPermission  = 1403
	CodeWrongType     = 1404 // the operation is not one of this type of object
	CodeObjectExists  = 1405
	CodeUnknownItem   = 1406
	CodeItemExists    = 1407
	CodeWrongRevision = 1408
	CodeBadTTL        = 1409
	CodeBadIndex      = 1410
	CodeBadCursor     = 1411
	CodeBadKey        = 1412
	CodeFull          = service.CodeFull
	CodeUnknownOp     = service.CodeUnknownOp
	CodeBadName       = 1415
	CodeClientsOnly   = service.CodeClientsOnly
)

// Codes are all codes of errors, with a word on each.
var Codes = []struct {
	Code uint32
	Text string
}{
	{CodeInvalid, "no JSON, or a field is unknown, missing or of the wrong type"},
	{CodeTooLarge, "the data, or all of the operation, is too large"},
	{CodeUnknownObject, "there is no such object"},
	{CodeNoPermission, "the caller may not do that"},
	{CodeWrongType, "the operation is not one of this type of object"},
	{CodeObjectExists, "the object exists already (create_new)"},
	{CodeUnknownItem, "there is no such item"},
	{CodeItemExists, "the item exists already (map.insert)"},
	{CodeWrongRevision, "the revision is not the one of if_revision; the current one is in the error"},
	{CodeBadTTL, "the ttl is negative or above a year"},
	{CodeBadIndex, "the index is out of range"},
	{CodeBadCursor, "the cursor is not one, or that of another query"},
	{CodeBadKey, "the key is empty or too long"},
	{CodeFull, "the object has as many items, or permissions, as it may"},
	{CodeUnknownOp, "there is no such operation"},
	{CodeBadName, "the name or id is not one"},
	{CodeClientsOnly, "only a connected client can do that"},
}

var failf = service.Errorf

func wrongRevision(want, is uint64) error {
	e := failf(CodeWrongRevision, "the current revision is %d, not %d", is, want)
	e.Revision = &is
	return e
}
