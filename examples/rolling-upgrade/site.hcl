# Three nodes that are upgraded every week, one after the other, while their guests run on. Try it without hardware:
#
#   pxrun lab up -i examples/rolling-upgrade --detach
#   pxrun apply form -i examples/rolling-upgrade --lab
#   pxrun lab updates add -i examples/rolling-upgrade release
#   pxrun plan weekly -i examples/rolling-upgrade --lab
#   pxrun apply weekly -i examples/rolling-upgrade --lab

cluster "prod" {
  node "pve1" {
    address = "192.0.2.71"
    links   = ["10.0.1.71", "10.0.2.71"]
  }
  node "pve2" {
    address = "192.0.2.72"
    links   = ["10.0.1.72", "10.0.2.72"]
  }
  node "pve3" {
    address = "192.0.2.73"
    links   = ["10.0.1.73", "10.0.2.73"]
  }
}

host "nas" { address = "192.0.2.79" }

variable "hours" {
  default     = null
  description = "When nodes may be begun, such as \"sat,sun 01:00-06:00\"; null is always."
}

variable "soak" {
  default     = "5m"
  description = "How long to look on after a node, before the next."
}

runbook "weekly" {
  description = "Upgrade the nodes while the guests run on"
  cluster     = cluster.prod

  # The built-in runbook, told what it may do with guests that cannot move live. `pxrun runbooks show rolling_upgrade` shows all that it can be told.
  task "rolling_upgrade" "nodes" {
    containers = "restart_container"
    tagged     = { worker = "shutdown" }
    bring_home = "moved"
    window     = var.hours
    soak       = var.soak
  }
}

# What is done at points of the built-in runbook. A hook that fails stops the run there.
hook "rolling_upgrade" "before_drain" {
  # The database has a replica on another node; the node is not touched before it has caught up.
  task "command" "replica" {
    run       = "test ! -e /run/replica-behind"
    read_only = true
  }
}

hook "rolling_upgrade" "after_reboot" {
  task "service" "exporter" {
    name  = "cron"
    state = "started"
  }
}

hook "rolling_upgrade" "between_nodes" {
  task "health" "well" {}
}

runbook "form" {
  description = "Make the cluster, to try it"
  cluster     = cluster.prod

  task "repository" "packages" {
    hosts        = cluster.prod.nodes
    pve          = "no-subscription"
    ceph         = "no-subscription"
    ceph_release = "squid"
  }

  task "cluster_create" "form" {
    name = "prod"
  }

  task "node_join" "members" {
    nodes = cluster.prod.nodes
  }

  task "storage" "shared" {
    type    = "nfs"
    server  = host.nas.address
    export  = "/export/guests"
    content = ["images", "rootdir"]
  }

  # A machine under HA. It may have moved since it was made, so the whole cluster is asked whether it exists.
  task "command" "database" {
    hosts  = cluster.prod.pve1
    run    = "qm create 100 --name database --memory 2048 --scsihw virtio-scsi-single --scsi0 shared:32 --ostype l26"
    unless = "grep -q '\"100\":' /etc/pve/.vmlist"
  }

  task "ha_resource" "database_runs" {
    resources = ["vm:100"]
    state     = "started"
  }
}
