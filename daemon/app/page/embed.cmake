# Writes FOLDER/page.css and FOLDER/page.js into OUTPUT as C++ constants, as page_texts.h declares them.
set(text "// Made by embed.cmake from page.css and page.js.\n#include \"daemon/app/page/page_texts.h\"\n\nnamespace evictd {\n")
file(READ ${FOLDER}/page.css css)
file(READ ${FOLDER}/page.js script)
string(APPEND text "\nconst std::string_view kPageStyle = R\"page(${css})page\";\n")
string(APPEND text "\nconst std::string_view kPageScript = R\"page(${script})page\";\n")
string(APPEND text "\n}  // namespace evictd\n")
file(WRITE ${OUTPUT} "${text}")
