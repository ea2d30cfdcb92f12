# Four nodes with Proxmox VE 8 and an arbiter, since four votes are even: two halves that do not see each other would both stand still. The same files work on
# Proxmox VE 9: what is an HA group here is a rule there. Try it without hardware:
#
#   pxrun apply examples/four-nodes-pve8 --lab --lab-pve 8.4.14

cluster "quad" {
  ssh {
    user      = "root"
    host_keys = "strict"
  }

  # The rack is what the placement of guests goes by, and migration an address in the network over which guests move. links are corosync's networks.
  node "pve1" {
    address = "192.0.2.31"
    links   = ["10.0.1.31", "10.0.2.31"]
    vars    = { rack = "left", migration = "10.0.5.31" }
  }
  node "pve2" {
    address = "192.0.2.32"
    links   = ["10.0.1.32", "10.0.2.32"]
    vars    = { rack = "left", migration = "10.0.5.32" }
  }
  node "pve3" {
    address = "192.0.2.33"
    links   = ["10.0.1.33", "10.0.2.33"]
    vars    = { rack = "right", migration = "10.0.5.33" }
  }
  node "pve4" {
    address = "192.0.2.34"
    links   = ["10.0.1.34", "10.0.2.34"]
    vars    = { rack = "right", migration = "10.0.5.34" }
  }
}

# Any small Debian host that fails apart from the nodes.
host "arbiter" {
  address = "192.0.2.40"
}

host "nas" {
  address = "192.0.2.41"
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

  # A node that is shut down or rebooted sends its guests away first, over a network of their own.
  task "datacenter" "options" {
    ha        = { shutdown_policy = "migrate" }
    migration = { type = "secure", network = "10.0.5.0/24" }
  }

  # What guests that any node may take over lie on.
  task "storage" "shared" {
    type    = "nfs"
    server  = host.nas.address
    export  = "/export/guests"
    content = ["images", "rootdir"]
  }

  # It may have moved since it was made, so the whole cluster is asked whether it exists.
  task "command" "guest" {
    hosts  = cluster.quad.pve1
    run    = "qm create 100 --name app --memory 1024 --scsihw virtio-scsi-single --scsi0 shared:16 --ostype l26"
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
