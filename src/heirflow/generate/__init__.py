"""What a service manager needs to run a member: a plan of settings goes in, the text of one file comes out, and nothing is read."""
