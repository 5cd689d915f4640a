//go:build imports

// Package imports names the command to build, so that go.mod and go.sum hold what it needs.
package imports

import _ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
