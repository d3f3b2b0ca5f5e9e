from openpali.cli.main import main

main()
