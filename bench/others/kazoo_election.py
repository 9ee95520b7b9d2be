"""What people write with kazoo's own recipe: `kazoo_election.py HOSTS PATH COMMAND …` runs the command while it is elected."""

import subprocess
import sys

from kazoo.client import KazooClient

hosts, path, *command = sys.argv[1:]
client = KazooClient(hosts, timeout=10.0)
client.start()
client.Election(path).run(subprocess.run, command)
client.stop()
