"""The page of the service, for whoever runs it: pages made on the server, one stylesheet and one small script."""
