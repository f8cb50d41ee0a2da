package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/jordigilh/kubernaut-e2e/test/workload/hapi/api"
)

// The request schemas, by their names in the document.
const (
	incidentSchema = "IncidentRequest"
	recoverySchema = "RecoveryRequest"
)

// validator checks request bodies against the schemas of one OpenAPI document, so that what is required is said once.
type validator struct{ schemas openapi3.Schemas }

func newValidator(document string) (*validator, error) {
	doc, err := openapi3.NewLoader().LoadFromData([]byte(document))
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	for _, name := range []string{incidentSchema, recoverySchema} {
		if doc.Components.Schemas[name] == nil {
			return nil, fmt.Errorf("the OpenAPI document has no schema %q", name)
		}
	}
	return &validator{schemas: doc.Components.Schemas}, nil
}

// body reads a JSON document and validates it. A problem names every missing and every invalid field.
func (v *validator) body(r io.Reader, schema string) ([]byte, *api.Error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, &api.Error{Detail: "request body: " + err.Error()}
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, &api.Error{Detail: "request body is not JSON: " + err.Error()}
	}
	err = v.schemas[schema].Value.VisitJSON(value, openapi3.MultiErrors(), openapi3.VisitAsRequest())
	if err == nil {
		return raw, nil
	}
	var problems []string
	fields := []string{}
	for _, e := range leaves(err) {
		field := strings.Join(e.JSONPointer(), ".")
		if e.SchemaField == "required" {
			problems = append(problems, field+" is missing")
		} else {
			problems = append(problems, fmt.Sprintf("%s: %s", orBody(field), e.Reason))
		}
		if field != "" {
			fields = append(fields, field)
		}
	}
	slices.Sort(problems)
	slices.Sort(fields)
	fields = slices.Compact(fields)
	return nil, &api.Error{Detail: strings.Join(slices.Compact(problems), "; "), Fields: &fields}
}

func orBody(field string) string {
	if field == "" {
		return "request body"
	}
	return field
}

// leaves flattens nested validation errors to those that speak of one field.
func leaves(err error) []*openapi3.SchemaError {
	var multi openapi3.MultiError
	var single *openapi3.SchemaError
	switch {
	case errors.As(err, &single) && single.Origin != nil:
		return leaves(single.Origin)
	case errors.As(err, &multi):
		var all []*openapi3.SchemaError
		for _, e := range multi {
			all = append(all, leaves(e)...)
		}
		return all
	case single != nil:
		return []*openapi3.SchemaError{single}
	default:
		return []*openapi3.SchemaError{{Reason: err.Error()}}
	}
}
