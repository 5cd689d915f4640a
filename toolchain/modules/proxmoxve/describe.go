package main

import (
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	shim "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim"
)

// shape is the form of one input: a scalar's type ("boolean", "integer", "number",
// "string", "any"), or "array" and "map" with their item, or "object" with its
// properties under their Pulumi (camelCase) names.
type shape struct {
	Type       string            `json:"type"`
	Required   bool              `json:"required,omitempty"`
	Item       *shape            `json:"item,omitempty"`
	Properties map[string]*shape `json:"properties,omitempty"`
}

// describeInputs returns the inputs of the provider and of every mapped resource by token.
func describeInputs(info tfbridge.ProviderInfo) map[string]*shape {
	described := map[string]*shape{
		"pulumi:providers:" + pulumiPackage: object(info.P.Schema(), info.Config),
	}
	for name, resource := range info.Resources {
		described[string(resource.Tok)] = object(info.P.ResourcesMap().Get(name).Schema(), resource.Fields)
	}
	return described
}

func object(properties shim.SchemaMap, infos map[string]*tfbridge.SchemaInfo) *shape {
	described := map[string]*shape{}
	properties.Range(func(name string, schema shim.Schema) bool {
		if schema.Optional() || schema.Required() {
			described[tfbridge.TerraformToPulumiNameV2(name, properties, infos)] = property(schema, infos[name])
		}
		return true
	})
	return &shape{Type: "object", Properties: described}
}

func property(schema shim.Schema, info *tfbridge.SchemaInfo) *shape {
	described := valueOf(schema, info)
	described.Required = schema.Required()
	return described
}

func valueOf(schema shim.Schema, info *tfbridge.SchemaInfo) *shape {
	switch schema.Type() {
	case shim.TypeBool:
		return &shape{Type: "boolean"}
	case shim.TypeInt:
		return &shape{Type: "integer"}
	case shim.TypeFloat:
		return &shape{Type: "number"}
	case shim.TypeString:
		return &shape{Type: "string"}
	case shim.TypeMap:
		// A map whose element is a resource is the bridge's way to write one nested object.
		if nested, ok := schema.Elem().(shim.Resource); ok {
			return object(nested.Schema(), fieldsOf(info))
		}
		return &shape{Type: "map", Item: itemOf(schema, info)}
	case shim.TypeList, shim.TypeSet:
		// The bridge passes a list of at most one item as the item itself.
		if tfbridge.IsMaxItemsOne(schema, info) {
			return itemOf(schema, info)
		}
		return &shape{Type: "array", Item: itemOf(schema, info)}
	default:
		return &shape{Type: "any"}
	}
}

func itemOf(schema shim.Schema, info *tfbridge.SchemaInfo) *shape {
	var element *tfbridge.SchemaInfo
	if info != nil {
		element = info.Elem
	}
	switch item := schema.Elem().(type) {
	case shim.Resource:
		return object(item.Schema(), fieldsOf(element))
	case shim.Schema:
		return valueOf(item, element)
	default:
		return &shape{Type: "any"}
	}
}

func fieldsOf(info *tfbridge.SchemaInfo) map[string]*tfbridge.SchemaInfo {
	if info == nil {
		return nil
	}
	return info.Fields
}
