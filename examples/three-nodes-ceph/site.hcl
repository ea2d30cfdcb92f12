# Three fresh Proxmox VE nodes become a hyper-converged cluster: two corosync links on networks of their own, Ceph with three monitors and OSDs whose
# databases lie on NVMe, a pool for guests, a CephFS, and a guest under HA that any node can take over. Try it without hardware:
#
#   pxrun apply examples/three-nodes-ceph --lab

variable "ceph_network" {
  default     = "10.0.3.0/24"
  description = "Where clients and monitors talk."
}

variable "ceph_cluster_network" {
  default     = "10.0.4.0/24"
  description = "Where OSDs copy to each other."
}

cluster "lab" {
  ssh {
    user      = "root"
    host_keys = "strict"
  }

  # Disks are named by their paths in /dev/disk/by-id, which stay with them. vars are the addresses in Ceph's networks: pxrun finds them on the nodes by
  # itself; written down, they exist in the lab too.
  node "pve1" {
    address = "192.0.2.11"
    links   = ["10.0.1.1", "10.0.2.1"]
    vars    = { ceph = "10.0.3.1", ceph_cluster = "10.0.4.1" }
    osds = [
      { device = "/dev/disk/by-id/ata-ACME_SSD_S1A", db_device = "/dev/disk/by-id/nvme-ACME_NVME_N1" },
      { device = "/dev/disk/by-id/ata-ACME_SSD_S1B", db_device = "/dev/disk/by-id/nvme-ACME_NVME_N1" },
    ]
  }
  node "pve2" {
    address = "192.0.2.12"
    links   = ["10.0.1.2", "10.0.2.2"]
    vars    = { ceph = "10.0.3.2", ceph_cluster = "10.0.4.2" }
    osds = [
      { device = "/dev/disk/by-id/ata-ACME_SSD_S2A", db_device = "/dev/disk/by-id/nvme-ACME_NVME_N2" },
      { device = "/dev/disk/by-id/ata-ACME_SSD_S2B", db_device = "/dev/disk/by-id/nvme-ACME_NVME_N2" },
    ]
  }
  node "pve3" {
    address = "192.0.2.13"
    links   = ["10.0.1.3", "10.0.2.3"]
    vars    = { ceph = "10.0.3.3", ceph_cluster = "10.0.4.3" }
    osds = [
      { device = "/dev/disk/by-id/ata-ACME_SSD_S3A", db_device = "/dev/disk/by-id/nvme-ACME_NVME_N3" },
      { device = "/dev/disk/by-id/ata-ACME_SSD_S3B", db_device = "/dev/disk/by-id/nvme-ACME_NVME_N3" },
    ]
  }
}

runbook "site" {
  cluster = cluster.lab

  task "preflight" "ready" {}

  task "cluster_create" "form" {
    name = "lab"
  }

  task "node_join" "members" {
    nodes = cluster.lab.nodes
  }

  task "ceph_init" "storage" {
    network         = var.ceph_network
    cluster_network = var.ceph_cluster_network
    version         = "squid"
    repository      = "no-subscription"

    pool "vm" {
      size     = 3
      min_size = 2
      storage  = true
    }

    fs "cephfs" {
      storage = true
    }
  }

  # A guest on the pool. It may have moved since it was made, so the whole cluster is asked whether it exists.
  task "command" "database" {
    hosts  = cluster.lab.pve1
    run    = "qm create 100 --name database --memory 2048 --scsihw virtio-scsi-single --scsi0 vm:32 --ostype l26"
    unless = "grep -q '\"100\":' /etc/pve/.vmlist"
  }

  task "ha_resource" "database_runs" {
    resources = ["vm:100"]
    state     = "started"
  }

  # It runs on pve1, and on pve2 or pve3 when that one is away.
  task "ha_group" "databases" {
    nodes     = { pve1 = 2, pve2 = 1, pve3 = 1 }
    resources = ["vm:100"]
  }
}
