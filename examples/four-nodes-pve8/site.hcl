# Four nodes with Proxmox VE 8 and an arbiter, since four votes are even: two halves that do not see each other would both stand still. The same files work on
# Proxmox VE 9: what is an HA group here is a rule there. Try it without hardware:
#
#   pxrun apply examples/four-nodes-pve8 --lab --lab-pve 8.4.14

cluster "quad" {
  ssh {
    user      = "root"
    host_keys = "strict"
  }

  # The rack is what the placement of guests goes by. links are corosync's networks.
  node "pve1" {
    address = "192.0.2.31"
    links   = ["10.0.1.31", "10.0.2.31"]
    vars    = { rack = "left" }
  }
  node "pve2" {
    address = "192.0.2.32"
    links   = ["10.0.1.32", "10.0.2.32"]
    vars    = { rack = "left" }
  }
  node "pve3" {
    address = "192.0.2.33"
    links   = ["10.0.1.33", "10.0.2.33"]
    vars    = { rack = "right" }
  }
  node "pve4" {
    address = "192.0.2.34"
    links   = ["10.0.1.34", "10.0.2.34"]
    vars    = { rack = "right" }
  }
}

# Any small Debian host that fails apart from the nodes.
host "arbiter" {
  address = "192.0.2.40"
}

locals {
  left_first = { for n in cluster.quad.nodes : n.name => n.vars.rack == "left" ? 2 : 1 }
}

runbook "site" {
  cluster = cluster.quad

  task "preflight" "ready" {}

  task "cluster_create" "form" {
    name = "quad"
  }

  task "node_join" "members" {
    nodes = cluster.quad.nodes
  }

  # Five votes, three needed: two nodes may be away, or one and the arbiter.
  task "qdevice" "arbiter" {
    arbiter = host.arbiter
  }

  # A guest without disks stands for one on shared storage. It may have moved since it was made, so the whole cluster is asked whether it exists.
  task "command" "guest" {
    hosts  = cluster.quad.pve1
    run    = "qm create 100 --name app --memory 1024 --ostype l26"
    unless = "grep -q '\"100\":' /etc/pve/.vmlist"
  }

  task "ha_resource" "app_runs" {
    resources   = ["vm:100"]
    state       = "started"
    max_restart = 2
  }

  # It runs in the left rack, and in the right one when that is away.
  task "ha_group" "app" {
    nodes     = local.left_first
    resources = ["vm:100"]
  }
}
