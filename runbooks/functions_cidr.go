package runbooks

import (
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"

	"github.com/apparentlymart/go-cidr/cidr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// network reads a prefix such as 10.0.1.0/24 and clears its host bits.
func network(text string, index int) (*net.IPNet, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, function.NewArgErrorf(index, "%q is no network such as 10.0.1.0/24", text)
	}
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, nil
}

var cidrHostFunc = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("prefix"), {Name: "number", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		base, err := network(args[0].AsString(), 0)
		if err != nil {
			return cty.NilVal, err
		}
		n, exact := args[1].AsBigFloat().Int(nil)
		if exact != big.Exact {
			return cty.NilVal, function.NewArgErrorf(1, "a whole number is required")
		}
		ip, err := cidr.HostBig(base, n)
		if err != nil {
			return cty.NilVal, err
		}
		return cty.StringVal(ip.String()), nil
	},
})

var cidrNetmaskFunc = stringFunc(cty.String, []string{"prefix"}, func(a []string) (cty.Value, error) {
	base, err := network(a[0], 0)
	if err != nil {
		return cty.NilVal, err
	}
	if len(base.IP) != net.IPv4len {
		return cty.NilVal, function.NewArgErrorf(0, "IPv6 networks have no netmask")
	}
	return cty.StringVal(net.IP(base.Mask).String()), nil
})

var cidrSubnetFunc = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("prefix"), {Name: "newbits", Type: cty.Number}, {Name: "number", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		base, err := network(args[0].AsString(), 0)
		if err != nil {
			return cty.NilVal, err
		}
		bits, err := intArg(args[1], 1)
		if err != nil {
			return cty.NilVal, err
		}
		if bits < 0 {
			return cty.NilVal, function.NewArgErrorf(1, "must not be negative")
		}
		n, exact := args[2].AsBigFloat().Int(nil)
		if exact != big.Exact {
			return cty.NilVal, function.NewArgErrorf(2, "a whole number is required")
		}
		sub, err := cidr.SubnetBig(base, bits, n)
		if err != nil {
			return cty.NilVal, err
		}
		return cty.StringVal(sub.String()), nil
	},
})

// cidrSubnetsFunc lays networks of the wanted sizes one after the other.
var cidrSubnetsFunc = function.New(&function.Spec{
	Params:   []function.Parameter{stringParam("prefix")},
	VarParam: &function.Parameter{Name: "newbits", Type: cty.Number},
	Type:     function.StaticReturnType(cty.List(cty.String)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		base, err := network(args[0].AsString(), 0)
		if err != nil {
			return cty.NilVal, err
		}
		if len(args) == 1 {
			return cty.ListValEmpty(cty.String), nil
		}
		length, all := base.Mask.Size()
		var (
			subnets []cty.Value
			last    *net.IPNet
		)
		for i, arg := range args[1:] {
			bits, err := intArg(arg, i+1)
			if err != nil {
				return cty.NilVal, err
			}
			if bits < 1 || length+bits > all {
				return cty.NilVal, function.NewArgErrorf(i+1, "a /%d can be extended by 1 to %d bits", length, all-length)
			}
			if last, err = nextSubnet(base, last, length+bits); err != nil {
				return cty.NilVal, function.NewArgError(i+1, err)
			}
			subnets = append(subnets, cty.StringVal(last.String()))
		}
		return cty.ListVal(subnets), nil
	},
})

// nextSubnet gives the first network of a length inside base that begins after last.
func nextSubnet(base, last *net.IPNet, length int) (*net.IPNet, error) {
	if last == nil {
		return &net.IPNet{IP: base.IP, Mask: net.CIDRMask(length, len(base.IP)*8)}, nil
	}
	next, over := cidr.NextSubnet(last, length)
	if over || !base.Contains(next.IP) {
		return nil, fmt.Errorf("there is no room left in %s", base)
	}
	return next, nil
}

// cidrContainsFunc tells whether a network holds an address or another network.
var cidrContainsFunc = stringFunc(cty.Bool, []string{"prefix", "address"}, func(a []string) (cty.Value, error) {
	outer, err := netip.ParsePrefix(a[0])
	if err != nil {
		return cty.NilVal, function.NewArgErrorf(0, "%q is no network such as 10.0.1.0/24", a[0])
	}
	if addr, err := netip.ParseAddr(a[1]); err == nil {
		return cty.BoolVal(outer.Contains(addr.Unmap())), nil
	}
	inner, err := netip.ParsePrefix(a[1])
	if err != nil {
		return cty.NilVal, function.NewArgError(1, errors.New("an address or a network is required"))
	}
	return cty.BoolVal(outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())), nil
})
