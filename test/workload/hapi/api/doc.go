// Package api is HAPI's contract: its OpenAPI document and the types, client and server interface generated from it. It holds
// no behaviour of the service.
package api

import _ "embed" // for the document

//go:generate go tool -modfile=../../../../tools.mod oapi-codegen -config config.yaml openapi.yaml

// Document is the OpenAPI document the service validates requests against.
//
//go:embed openapi.yaml
var Document string
