from openpali.cli import main

main()
