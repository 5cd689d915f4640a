// The pulumi-resource-proxmoxve plugin, built from Go modules.
//
// It joins the same parts as the official plugin (bpg's Terraform provider behind
// Pulumi's bridge) and serves only the resources that proxmox-swarm uses, under the
// tokens of the Python SDK pulumi-proxmoxve. The generated Pulumi schema is left out:
// no program needs it at run time. Run with -describe-inputs, it prints the input
// names it accepts, which the contract tests compare with the Python SDK.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/bpg/terraform-provider-proxmox/fwprovider"
	sdkprovider "github.com/bpg/terraform-provider-proxmox/proxmoxtf/provider"
	pf "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	shim "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim"
	sdkv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/x/muxer"
	"github.com/pulumi/pulumi-terraform-bridge/v3/unstable/metadata"
)

// Version is the plugin version the Python SDK asks for; set by the linker.
var Version string

const pulumiPackage = "proxmoxve"

// Terraform resource name to the module and name of its Pulumi token.
var resources = map[string][2]string{
	"proxmox_virtual_environment_vm":   {"index", "VmLegacy"},
	"proxmox_virtual_environment_file": {"index", "FileLegacy"},
	"proxmox_virtual_environment_pool": {"index", "PoolLegacy"},
	"proxmox_download_file":            {"download", "File"},
	"proxmox_haresource":               {"index", "Haresource"},
	"proxmox_harule":                   {"index", "Harule"},
	"proxmox_pool_membership":          {"pool", "Membership"},
}

// dispatcher is the joined provider: it knows which of its two halves (Terraform
// plugin SDK v2 or plugin framework) serves a resource.
type dispatcher interface {
	ResolveDispatch(*tfbridge.ProviderInfo) (muxer.DispatchTable, error)
}

func providerInfo(ctx context.Context) (tfbridge.ProviderInfo, error) {
	joined := pf.MuxShimWithPF(ctx, sdkv2.NewProvider(sdkprovider.ProxmoxVirtualEnvironment()), fwprovider.New(Version)())
	info := tfbridge.ProviderInfo{
		P:              joined,
		Name:           "proxmox",
		ResourcePrefix: "proxmox",
		Version:        Version,
		Resources:      map[string]*tfbridge.ResourceInfo{},
		MetadataInfo:   tfbridge.NewProviderMetadata([]byte("{}")),
	}
	for name, member := range resources {
		if _, ok := joined.ResourcesMap().GetOk(name); !ok {
			return info, fmt.Errorf("terraform-provider-proxmox has no resource %s", name)
		}
		info.Resources[name] = &tfbridge.ResourceInfo{Tok: tfbridge.MakeResource(pulumiPackage, member[0], member[1])}
	}
	joined.ResourcesMap().Range(func(name string, _ shim.Resource) bool {
		if _, ok := resources[name]; !ok {
			info.IgnoreMappings = append(info.IgnoreMappings, name)
		}
		return true
	})
	joined.DataSourcesMap().Range(func(name string, _ shim.Resource) bool {
		info.IgnoreMappings = append(info.IgnoreMappings, name)
		return true
	})
	info.SetAutonaming(255, "-")

	// The official build reads this table from a generated file.
	table, err := joined.(dispatcher).ResolveDispatch(&info)
	if err != nil {
		return info, err
	}
	return info, metadata.Set(info.GetMetadata(), "mux", table)
}

func main() {
	ctx := context.Background()
	info, err := providerInfo(ctx)
	if err == nil && len(os.Args) == 2 && os.Args[1] == "-describe-inputs" {
		err = json.NewEncoder(os.Stdout).Encode(describeInputs(info))
		if err == nil {
			return
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-proxmoxve:", err)
		os.Exit(1)
	}
	schema, _ := json.Marshal(map[string]string{"name": pulumiPackage, "version": Version})
	pf.MainWithMuxer(ctx, pulumiPackage, info, schema)
}
