"""Programs that are started by themselves, without the package: the will's helper, and the gate of a standby."""
