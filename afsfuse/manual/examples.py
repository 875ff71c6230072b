"""The section EXAMPLES of the manual pages; a test runs the commands in it."""

AFSFUSE = """\
# a mount of all cells, as an ordinary user
mkdir -p ~/afs
afsfuse mount afs ~/afs
ls ~/afs/example.org

# what a path hangs on, and what is not stored yet
afsfuse why ~/afs/example.org/README
afsfuse status

afsfuse umount ~/afs"""

FS = """\
# let everybody read what is in a directory, and one user change it
cd /afs/.example.org/user/alice
afsfuse fs listacl .
afsfuse fs setacl . system:anyuser read bob write

# the quota of a volume, and where the volume is
afsfuse fs listquota . -human
afsfuse fs whereis .
afsfuse fs lsmount /afs/.example.org/user/alice"""

HELPER = """\
mount -t fuse.afs afs /afs
mount -t fuse.afs '#example.org:project.' /mnt -o ro,crypt=auth

# a line of /etc/fstab: mounted when somebody looks there
afs  /afs  fuse.afs  _netdev,noauto,x-systemd.automount  0  0"""

FILE = """\
# for all mounts: more memory, and servers of this network first
memory = "256M"
serverprefs = "192.0.2.0/24=10"

# afsfuse mount /srv/project needs no other word
[mount."/srv/project"]
source = "#example.org:project."
ro = true"""
