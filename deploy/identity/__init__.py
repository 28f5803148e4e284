"""Who is who: addresses, certificates, keys, invitations."""
