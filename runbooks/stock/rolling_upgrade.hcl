# Upgrades the nodes of a cluster, one after the other, without losing quorum, a placement group or a guest. What is done with guests
# that cannot move live is said by the arguments; as long as nothing is said, such a guest keeps its node from being begun.

runbook "rolling_upgrade" {
  description = "Upgrade the nodes of a cluster one after the other: drain, upgrade, restart, prove, give back"

  # Which guests may stop, and how.
  argument "policy" {
    type        = string
    default     = "block"
    description = "What is done with machines that cannot move live: migrate_with_disks, shutdown, leave or block"
  }
  argument "containers" {
    type        = string
    default     = "block"
    description = "The same for containers: restart_container, shutdown, leave or block"
  }
  argument "tagged" {
    type        = map(string)
    default     = {}
    description = "Policies of the guests that have a tag"
  }
  argument "guests" {
    type        = map(string)
    default     = {}
    description = "Policies of single guests, by id"
  }
  argument "bring_home" {
    type        = string
    default     = "never"
    description = "Which guests come back to their node: never, moved or balanced"
  }
  argument "reserve" {
    type        = string
    default     = "2GiB"
    description = "Memory that stays free on every node: an amount, or a percentage"
  }
  argument "parallel" {
    type        = number
    default     = 0
    description = "How many guests leave a node at once; 0 is the datacenter's max_workers"
  }

  argument "on_stall" {
    type        = string
    default     = "block"
    description = "What is done with a machine whose move never ends, since it writes memory faster than the network carries: block or shutdown"
  }

  # When a node is restarted.
  argument "reboot" {
    type        = string
    default     = "auto"
    description = "When nodes are restarted: auto, always or never"
  }
  argument "fallback_kernel" {
    type        = bool
    default     = false
    description = "Keep the kernel that runs now as the one for every start but the next, until the new one has come up"
  }

  # How the run goes.
  argument "max_unavailable" {
    default     = 1
    description = "How many nodes may be out at once: a number, or a percentage"
  }
  argument "max_unavailable_per" {
    type        = string
    default     = "cluster"
    description = "Whether max_unavailable counts the nodes of the whole cluster, or of each site (vars.site): cluster or site"
  }
  argument "max_failed" {
    type        = number
    default     = 0
    description = "How many nodes may fail before the rest is left alone"
  }
  argument "canary" {
    type        = number
    default     = 0
    description = "How many nodes go first, each alone"
  }
  argument "canary_nodes" {
    type        = list(string)
    default     = []
    description = "Nodes that go first"
  }
  argument "allow_own" {
    type        = bool
    default     = false
    description = "Let the node go too, last, on which the machine with pxrun runs"
  }
  argument "soak" {
    type        = string
    default     = "1m"
    description = "How long to wait after a node, before the next"
  }
  argument "pause" {
    type        = string
    default     = "never"
    description = "When somebody must approve: never, before_node or after_first"
  }
  argument "window" {
    type        = string
    default     = null
    description = "The hours in which nodes are begun, such as \"22:00-05:00\""
  }
  argument "stop_after" {
    type        = string
    default     = null
    description = "How long the run may begin nodes that are through by then"
  }
  argument "on_node_failure" {
    type        = string
    default     = "stop"
    description = "What a node that fails means for the others: stop or skip"
  }

  # What is let pass, each by its exact name; what was needed stands in the report.
  argument "ceph_accept" {
    type        = list(string)
    default     = []
    description = "Health checks of Ceph that do not count"
  }
  argument "tolerate" {
    type        = list(string)
    default     = []
    description = "Nodes that may be down or in maintenance meanwhile"
  }
  argument "ignore" {
    type        = list(string)
    default     = []
    description = "Gates that do not count: others, links, ha, tasks, ceph_flags"
  }
  argument "ignore_preflight" {
    type        = list(string)
    default     = []
    description = "Checks before the run that only warn"
  }
  argument "backups_within" {
    type        = string
    default     = "0s"
    description = "How old the newest backup of a guest may be; 0s does not ask for backups"
  }
  argument "ignore_findings" {
    type        = list(string)
    default     = []
    description = "Checks of the proof of health at the end that do not count"
  }
  argument "may_stop" {
    type        = list(string)
    default     = []
    description = "Guests, by id, that may be stopped in the end although they ran before"
  }

  # How long each phase of a node may take.
  argument "drain_within" {
    type        = string
    default     = "6h"
    description = "How long a node may take to be emptied"
  }
  argument "move_within" {
    type        = string
    default     = "2h"
    description = "How long one guest may take to move"
  }
  argument "unlocked_within" {
    type        = string
    default     = "30m"
    description = "How long a guest may be locked, by a backup say, until it can move"
  }
  argument "upgrade_within" {
    type        = string
    default     = "2h"
    description = "How long a node may take to install its packages"
  }
  argument "return_within" {
    type        = string
    default     = "30m"
    description = "How long a node may take to restart"
  }
  argument "healthy_within" {
    type        = string
    default     = "1h"
    description = "How long a node may take until Ceph is whole again"
  }
  argument "stalled_within" {
    type        = string
    default     = "10m"
    description = "How long Ceph may take without anything getting better"
  }
  argument "release_within" {
    type        = string
    default     = "3h"
    description = "How long a node may take to be given back"
  }

  task "preflight" "cluster" {
    for            = "running"
    ignore         = arg.ignore_preflight
    backups_within = arg.backups_within
  }

  task "packages_download" "fetch" {}

  rolling "nodes" {
    over            = cluster.nodes
    max_unavailable = arg.max_unavailable
    canary          = arg.canary
    max_failed      = arg.max_failed
    soak            = arg.soak

    max_unavailable_per = arg.max_unavailable_per

    pause           = arg.pause
    window          = arg.window
    stop_after      = arg.stop_after
    on_node_failure = arg.on_node_failure

    task "drain" "evacuate" {
      policy      = arg.policy
      containers  = arg.containers
      tagged      = arg.tagged
      guests      = arg.guests
      bring_home  = arg.bring_home
      reserve     = arg.reserve
      parallel    = arg.parallel
      canary      = arg.canary_nodes
      allow_own   = arg.allow_own
      timeout     = arg.drain_within
      ceph_accept = arg.ceph_accept
      tolerate    = arg.tolerate
      ignore      = arg.ignore

      on_stall     = arg.on_stall
      move_timeout = arg.move_within
      lock_timeout = arg.unlocked_within
    }

    task "upgrade" "packages" {
      timeout  = arg.upgrade_within
      tolerate = arg.tolerate
      ignore   = [for gate in arg.ignore : gate if gate == "others"]
    }

    task "reboot" "restart" {
      mode            = arg.reboot
      fallback_kernel = arg.fallback_kernel
      return_within   = arg.return_within
      ceph_accept     = arg.ceph_accept
      tolerate        = arg.tolerate
      ignore          = arg.ignore
    }

    task "node_healthy" "verify" {
      ceph_within  = arg.healthy_within
      ceph_stalled = arg.stalled_within
      tolerate     = arg.tolerate
    }

    task "release" "back" {
      timeout  = arg.release_within
      may_stop = arg.may_stop
    }
  }

  task "health" "after" {
    within   = "5m"
    ignore   = arg.ignore_findings
    tolerate = arg.tolerate
  }
}
